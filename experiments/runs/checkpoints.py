"""Checkpoints of a run through orbax: written in the background, whole or not at all, read back exactly.

A state is any pytree of arrays, optax states and typed random keys among them. It is stored as numbered leaves beside a
table of their names, shapes and dtypes; the structure itself comes from the target a reader passes. So a checkpoint
does not depend on how orbax treats a container, and a mismatch is found and named before anything is read. The table
also holds a checksum of every leaf: nothing is taken that is not as it was written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from experiments.errors import UserError
from experiments.runs import hosts
from experiments.runs.run_folder import write_atomically

PyTree = Any


UNKNOWN = -math.inf
"""Stands for no score: below every other."""

ROOM = 4_000_000
"""Bytes that a checkpoint's own files take beside its arrays, at most."""

DESCRIPTION = "_CHECKPOINT_METADATA"
"""Of a checkpoint, orbax's own; nothing in it is needed to read the checkpoint."""
DESCRIBED = dict.fromkeys(("init_timestamp_nsecs", "commit_timestamp_nsecs"), int) | dict.fromkeys(
    ("item_handlers", "metrics", "performance_metrics", "custom_metadata"), dict
)
"""What it holds, and as what orbax insists on reading that."""

UNFINISHED = ".orbax-checkpoint-tmp"
"""In the name of a folder that orbax is still writing."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that does not fit or cannot be read; the message names it and says what is wrong."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not as it was written."""


@dataclasses.dataclass(frozen=True)
class Restored:
    step: int
    state: PyTree
    extra: dict[str, Any]


class Checkpoints:
    """The last `keep` checkpoints of a folder, and the best one by score.

    One process writes, the one that holds the run folder, or all of a run on several hosts together; others open it
    with `read_only`, also while it is being written. A context manager: leaving it waits for what is still being
    written.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2, read_only: bool = False):
        _quiet()
        self.folder = pathlib.Path(folder).absolute()
        self._known = self.folder.with_name(f".{self.folder.name}.newest")  # outlives the folder
        self._written: int | None = None
        if not read_only:
            if hosts.is_first():
                self._remove_parts()
                self._check_what_is_read_first(mend=True)
            hosts.wait_for_all("checkpoints")
        else:
            self._check_what_is_read_first(mend=False)
        policies = [LatestN(keep), BestN(get_metric_fn=_score, n=1)]
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_names=("state", "table", "extra"),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(),
                "table": ocp.JsonCheckpointHandler(),
                "extra": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if read_only else AnyPreservationPolicy(policies),
                best_fn=_score,
                read_only=read_only,
                create=not read_only,
            ),
        )

    def _remove_parts(self) -> None:
        """A kill during a save or a deletion leaves part of a checkpoint, which must not stand in the way of the same
        step.

        Orbax would remove unfinished saves in a thread of its own, which complains where a run ends in its first
        second.
        """
        for place in self.folder.glob("[0-9]*"):
            if UNFINISHED in place.name or (place.name.isdigit() and not _whole(place)):
                shutil.rmtree(place)

    def _check_what_is_read_first(self, mend: bool) -> None:
        """Orbax reads all scores and times when it opens the folder, and none of them decides how a run goes on."""
        for place in self.folder.glob("[0-9]*"):
            if place.name.isdigit() and _whole(place):
                _check_score(place, mend)
                _check_description(place, mend)

    def save(self, step: int, state: PyTree, extra: Mapping[str, Any], score: float | None = None) -> None:
        """Start writing checkpoint `step`. The state may be donated or changed as soon as this returns.

        extra: anything JSON holds. score: larger is better (`eval/success`); None where nothing was evaluated.
        Waits for the checkpoint before, if that one is still being written, and raises what went wrong with it. Raises
        CheckpointError where the disk has no room for this one; those before stay.
        """
        table = _table(state)
        leaves = {f"{i:06d}": _data(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        self._need_room(step, sum(leaf.nbytes for leaf in leaves.values()))
        digests = [_digest(leaf) for leaf in leaves.values()]
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(leaves),
                table=ocp.args.JsonSave(_seal({"leaves": table, "crc32": digests, "extra": _json_digest(extra)})),
                extra=ocp.args.JsonSave(dict(extra)),
            ),
            metrics={"score": UNKNOWN if score is None else float(score)},
        )
        self._note_written()
        self._written = step

    def _note_written(self) -> None:
        """Remember, beside the checkpoints, the newest one that is known to be whole."""
        if self._written is not None and hosts.is_first():
            write_atomically(self._known, f"{self._written}\n")

    def _need_room(self, step: int, size: int) -> None:
        """Orbax finds out in a thread of its own, and says so in hundreds of lines."""
        free, needed = shutil.disk_usage(self.folder).free, size + ROOM
        if free < needed:
            raise CheckpointError(
                f"{self.folder}: no space left on the disk for checkpoint {step}, which needs {needed / 1e6:.0f} MB "
                f"where {free / 1e6:.0f} are free: make room, and the same command goes on from the checkpoint before"
            )

    def restore(self, target: PyTree, step: int | None = None) -> Restored | None:
        """Read checkpoint `step`, by default the newest; None where there is none at all.

        target: the state's structure, as arrays or as `jax.eval_shape` gives it. numpy leaves come back as numpy, all
        others as jax arrays of exactly the target's shapes and dtypes, on its shardings where it has them.
        Raises CheckpointError where the checkpoint holds another structure (naming the leaf) or is damaged.
        """
        steps = self.steps()
        if step is None and not steps:
            return None
        step = steps[-1] if step is None else step
        place = self.folder / str(step)
        if step not in steps:
            raise CheckpointError(f"{self.folder} holds no checkpoint {step}; it holds {list(steps)}")
        try:
            described = self._manager.restore(
                step, args=ocp.args.Composite(table=ocp.args.JsonRestore(), extra=ocp.args.JsonRestore())
            )
            table, extra = described["table"], described["extra"]
            _check_seal(table, extra)
            _refuse_another_structure(place, table["leaves"], _table(target))
            leaves, structure = jax.tree.flatten(target)
            wanted = {f"{i:06d}": _abstract(leaf) for i, leaf in enumerate(leaves)}
            restore_args = jax.tree.map(_restore_args, wanted)
            read = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore(wanted, restore_args=restore_args))
            )["state"]
            _check_leaves([read[name] for name in wanted], table)
        except CheckpointError:
            raise
        except Exception as error:  # orbax and what lies under it have an error of their own for each kind of damage
            raise DamagedCheckpointError(
                f"{place} is damaged ({_reason(error)}); delete it to go on from the one before"
            ) from error
        state = structure.unflatten([_like(leaf, read[f"{i:06d}"]) for i, leaf in enumerate(leaves)])
        return Restored(step, state, dict(extra))

    def restore_newest(
        self, target: Callable[[int], PyTree], say: Callable[[str], None], restart: bool = False
    ) -> Restored | None:
        """Read the newest checkpoint that is whole; None where there was never one, or none is left to `restart` from.

        target: the structure of a step's state, as `restore` takes it. What is damaged is moved aside, and `say` is
        told in a sentence. Raises CheckpointError where none is left that is whole, unless `restart`; and, with
        several processes, where the newest is damaged.
        """
        while steps := self.steps():
            try:
                return self.restore(target(steps[-1]), steps[-1])
            except DamagedCheckpointError as error:
                if jax.process_count() > 1:
                    raise
                aside = self._move_aside(steps[-1])
                say(f"checkpoint {steps[-1]} is damaged ({_reason(error.__cause__)}) and was moved to {aside}")
        newest = self._known.read_text().strip() if self._known.exists() else None
        if newest is None:
            return None
        if not restart:
            raise CheckpointError(
                f"{self.folder} held checkpoints up to {newest} and has none any more that is whole: put them back, or "
                "begin at zero with --restart"
            )
        self._known.unlink()
        return None

    def _move_aside(self, step: int) -> pathlib.Path:
        aside = self.folder.with_name(f"{self.folder.name}.damaged") / str(step)
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self.folder / str(step), aside)
        write_atomically(self._known, f"{step}\n")
        self._manager.reload()
        return aside

    def steps(self) -> tuple[int, ...]:
        """The whole checkpoints there are, oldest first."""
        return tuple(step for step in sorted(self._manager.all_steps()) if _whole(self.folder / str(step)))

    def best_step(self) -> int | None:
        """The checkpoint of the highest score among those kept, of equals the newest; None where none has a score."""
        step = self._manager.best_step()
        metrics = None if step is None else self._manager.metrics(step)
        return None if metrics is None or _score(metrics) == UNKNOWN else step

    def wait(self) -> None:
        """Return when everything saved is on disk."""
        self._manager.wait_until_finished()
        self._note_written()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._manager.close)
            self.wait()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _whole(place: pathlib.Path) -> bool:
    """Orbax renames a finished checkpoint into place; only a deletion cut short leaves less than this."""
    return all((place / name).exists() for name in (DESCRIPTION, "state", "table", "extra", "metrics"))


def _score(metrics: Mapping[str, float]) -> float:
    return metrics["score"]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.int32), jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _table(tree: PyTree) -> list[list]:
    """Name, shape and dtype of every leaf; a random key's dtype names its implementation."""
    rows = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"a state holds arrays only: {name or 'the state'} is a {type(leaf).__name__}")
        rows.append([name, list(leaf.shape), str(leaf.dtype)])
    return rows


def _abstract(leaf: Any) -> Any:
    """What orbax needs to know of a leaf: a numpy array stays one, anything else becomes shape, dtype, sharding."""
    if isinstance(leaf, np.ndarray | np.generic):
        return np.empty(leaf.shape, leaf.dtype)
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    if isinstance(leaf, np.ndarray):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _like(target: Any, read: Any) -> Any:
    if not _is_key(target):
        return read
    implementation = []  # the target may be abstract, and `key_impl` takes arrays and tracers only
    jax.eval_shape(lambda key: implementation.append(jax.random.key_impl(key)), target)
    return jax.random.wrap_key_data(read, impl=implementation[0])


def _refuse_another_structure(place: pathlib.Path, saved: list[list], wanted: list[list]) -> None:
    for was, now in zip(saved, wanted, strict=False):
        if was != now:
            was, now = (f"{name or 'the state'} {dtype}{shape}" for name, shape, dtype in (was, now))
            raise CheckpointError(f"{place} holds another state: {was} there, {now} expected")
    if len(saved) != len(wanted):
        raise CheckpointError(f"{place} holds another state: {len(saved)} arrays there, {len(wanted)} expected")


def _digest(leaf: Any) -> int | None:
    """A checksum of an array's bytes; None where this process does not hold all of it."""
    if not getattr(leaf, "is_fully_addressable", True):
        return None
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)


def _json_digest(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _seal(table: dict[str, Any]) -> dict[str, Any]:
    """The table with a checksum of itself."""
    return {**table, "table": _json_digest(table)}


def _check_seal(table: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    """Raise ValueError where the table or what lies beside it changed; earlier versions wrote no checksums."""
    if set(table) == {"leaves"}:
        return
    content = {name: value for name, value in table.items() if name != "table"}
    if table.get("table") != _json_digest(content):
        raise ValueError("the checksum of its table differs")
    if table["extra"] != _json_digest(extra):
        raise ValueError("the checksum of its counts differs")


def _check_leaves(read: Sequence[Any], table: Mapping[str, Any]) -> None:
    for (name, *_), leaf, digest in zip(table["leaves"], read, table.get("crc32", ()), strict="crc32" in table):
        if digest is not None and _digest(leaf) not in (digest, None):
            raise ValueError(f"the checksum of {name or 'its state'} differs")


def _check_score(place: pathlib.Path, mend: bool) -> None:
    """Raise DamagedCheckpointError where the score cannot be read, or count it as unknown: nothing goes on from it."""
    path = place / "metrics" / "metrics"
    try:
        float(json.loads(path.read_text())["score"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if not mend:
            raise DamagedCheckpointError(f"{path} is damaged ({_reason(error)})") from error
        write_atomically(path, json.dumps({"score": UNKNOWN}))


def _check_description(place: pathlib.Path, mend: bool) -> None:
    """Raise DamagedCheckpointError where orbax would raise errors of its own, or leave the description empty."""
    path = place / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in DESCRIBED.items():
            value = described.get(name)
            if value is not None and (not isinstance(value, kind) or (isinstance(value, int) and abs(value) >= 2**63)):
                raise ValueError(f"{name} is {str(value)[:40]}")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        if not mend:
            raise DamagedCheckpointError(f"{path} is damaged ({_reason(error)})") from error
        write_atomically(path, "{}")


def _reason(error: BaseException | None) -> str:
    """What an error says, without the dumps that libraries append to it."""
    return re.split(r"\n|: \{|; |\. See full| \[\w+=| \[source", str(error), maxsplit=1)[0][:160]


def _quiet() -> None:
    """Orbax tells every step of every save through absl; only warnings are worth a line."""
    absl.logging.set_verbosity(absl.logging.WARNING)
    for name in ("absl", "orbax"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_is_no_dump)


def _is_no_dump(record: logging.LogRecord) -> bool:
    """Of a damaged checkpoint orbax raises one leaf's error; those of the others would be told in pages."""
    return "orbax" not in record.getMessage()
