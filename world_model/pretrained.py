"""Where weights are: a folder, a finished run, a checkpoint that comes with the project, or a name on the Hugging Face
hub; and how they get to the hub."""

from __future__ import annotations

import pathlib
import re
import types
from typing import Any

from tokenizer.errors import UserError
from world_model import folder

BUNDLED = pathlib.Path(__file__).parents[1] / "experiments" / "models"
"""Checkpoints that come with the project, by the names of their folders; each says in its README.md how it was made."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""As in thuml/ivideogpt-oxe-64-act-free."""
RUN_CONFIG, RUN_MODEL = "config.yaml", "model"
"""What tells a run folder, and where a finished one has its model."""


class NotFound(UserError, FileNotFoundError):
    """No such model; one sentence says where was looked."""


def find(source: str) -> pathlib.Path:
    """The folder that is meant: a model's, a finished run's, a bundled checkpoint's by its name, or a hub's, fetched.

    Raises NotFound.
    """
    for path in (pathlib.Path(source), BUNDLED / source):
        if (path / RUN_CONFIG).exists():
            if not (path / RUN_MODEL).is_dir():
                raise NotFound(f"{path} has no model yet: a run has one once it is finished")
            return path / RUN_MODEL
        if path.is_dir():
            return path
    if pathlib.Path(source).exists() or not HUB_NAME.fullmatch(source):
        bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()) if BUNDLED.is_dir() else []
        raise NotFound(
            f"{source}: no such folder, no bundled checkpoint (those are {', '.join(bundled) or 'none'}), and no hub "
            f"name like thuml/ivideogpt-oxe-64-act-free"
        )
    return _fetch(source)


def _fetch(name: str) -> pathlib.Path:
    try:
        return pathlib.Path(hub(name).snapshot_download(name, allow_patterns=list(folder.FILES)))
    except (OSError, ValueError) as error:  # all that its own errors are
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise NotFound(f"{name} is no folder here, and the hub did not give it: {reason}") from error


def upload(
    source: pathlib.Path,
    name: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    message: str,
) -> Any:
    """Make the repository where there is none, and upload a model's folder in one commit. Returns what the hub says."""
    api = hub(name).HfApi(token=token)
    made = api.create_repo(repo_id=name, private=private, exist_ok=True, repo_type="model")
    return api.upload_folder(
        repo_id=made.repo_id, folder_path=source, revision=revision, commit_message=message, repo_type="model"
    )


def hub(name: str) -> types.ModuleType:
    """The package that speaks to the hub. Raises NotFound where it is not installed."""
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports] (of the extra `hub`)
    except ImportError:
        raise NotFound(
            f"{name} is no folder here; to reach the hub: pip install 'ivideogpt-jax[hub]', or give a folder"
        ) from None
    return huggingface_hub
