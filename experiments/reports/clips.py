"""Videos and pictures within a page."""

from __future__ import annotations

import base64
import dataclasses
import pathlib

MEDIA = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png"}


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video or picture, whole, as a data address."""

    when: str  # as "agent step 1,300"
    address: str


def address_of(path: pathlib.Path) -> str:
    """A file, whole, as a data address."""
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
