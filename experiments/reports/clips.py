"""Videos and pictures within a page."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video or picture, whole, as a data address."""

    when: str  # as "agent step 1,300"
    address: str
