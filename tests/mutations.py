"""Files damaged at random, and how the readers take it:

    python tests/mutations.py [--count 2500] [--seed 0] [--kinds KIND ...] [--only KIND:NUMBER]

A damaged file is refused in one sentence, or it is read as it was; what others wrote, and what people may edit, may
also be read as something else. Anything besides is a fault, which `--only` repeats: an error with a traceback, more
than 10 seconds, more memory than twice the files and 500 MB, a change of our own files that nobody noticed. Each
reader works in a process of its own, forked from one in which JAX has never begun. The files of a checkpoint have other
names each time, so that the same number may damage another one of them. `make mutations` runs all.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

# The folder of this script has a folder `experiments`, too, which is not the project's.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from agent.events import Progress
from experiments.runs.progress import ProgressDisplay
from tokenizer.errors import UserError

if TYPE_CHECKING:
    from originals import Kind

SECONDS = 10
EXTRA = 500 * 2**20
"""Bytes that a reader may take besides twice the files."""
ADDRESSES = 8 * 2**30
"""Bytes of addresses that a reader may ask for, so that one that is wrong does not take the machine with it."""
OUTCOMES = ("refused", "same", "changed", "traceback", "hang", "memory")
PARSED = {".json": "json", ".jsonl": "jsonl", ".yaml": "yaml", ".csv": "csv"}


# --- damage to bytes --------------------------------------------------------------------------------------------------


def flip_bit(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    """Beginning and end of a part, a short one as likely as a long one."""
    start = rng.randrange(len(content))
    return start, start + rng.randint(1, max(1, int((len(content) - start) ** rng.random())))


def overwrite(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def cut_end(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def repeat_span(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:]


def delete_span(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def zero_span(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def swap_spans(content: bytes, rng: random.Random) -> bytes:
    size = rng.randint(1, max(1, len(content) // 4))
    first = rng.randint(0, max(0, len(content) - 2 * size))
    second = rng.randint(first + size, max(first + size, len(content) - size))
    one, other = content[first : first + size], content[second : second + size]
    return content[:first] + other + content[first + size : second] + one + content[second + size :]


BYTES = (flip_bit, overwrite, cut_end, repeat_span, delete_span, zero_span, swap_spans)


# --- damage to values that text holds ---------------------------------------------------------------------------------

NUMBERS = (-1, 0, 1e308, float("nan"), float("inf"), 10**40, 0.5)
STRANGERS = ("text", "", "\n", [], [[]], {}, {"a": 1}, None, True)


def change_value(content: bytes, form: str, rng: random.Random) -> bytes:
    """Another value in one place of a text, or a place less. Text that cannot be parsed stays as it is."""
    try:
        if form == "csv":
            return _change_cell(content, rng)
        if form == "jsonl":
            *lines, rest = content.split(b"\n")
            chosen = rng.randrange(len(lines))
            lines[chosen] = json.dumps(_changed(json.loads(lines[chosen]), rng)).encode()
            return b"\n".join([*lines, rest])
        if form == "yaml":
            return yaml.safe_dump(_changed(yaml.safe_load(content), rng), sort_keys=False).encode()
        return json.dumps(_changed(json.loads(content), rng)).encode()
    except ValueError:
        return content


def _change_cell(content: bytes, rng: random.Random) -> bytes:
    table = list(csv.reader(io.StringIO(content.decode())))
    row = rng.choice(table)
    place = rng.randrange(len(row))
    if rng.random() < 0.2:
        del row[place]
    else:
        row[place] = str(rng.choice((*NUMBERS, *STRANGERS)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list within a value, with each of its keys."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _changed(value: Any, rng: random.Random) -> Any:
    places = list(_places(value)) if isinstance(value, dict | list) else []
    if not places or rng.random() < 0.03:
        return rng.choice(STRANGERS)
    where, key = rng.choice(places)
    is_number = isinstance(where[key], int | float)
    if rng.random() < 0.2:
        del where[key]
    else:
        where[key] = rng.choice(NUMBERS if is_number and rng.random() < 0.6 else STRANGERS)
    return value


def _form_of(path: pathlib.Path, content: bytes) -> str | None:
    """How a file's values can be told apart; None where it holds something else than text."""
    if path.suffix in PARSED:
        return PARSED[path.suffix]
    try:
        return "json" if isinstance(json.loads(content), dict) else None
    except ValueError:
        return None


def mutate(path: pathlib.Path, rng: random.Random) -> str:
    """Damage a file in its place; returns how."""
    content = path.read_bytes()
    form = _form_of(path, content)
    for _ in range(100):
        if form and rng.random() < 0.5:
            name, damaged = "change_value", change_value(content, form, rng)
        else:
            mutation = rng.choice(BYTES)
            name, damaged = mutation.__name__, mutation(content, rng)
        if damaged != content:
            path.write_bytes(damaged)
            return name
    raise ValueError(f"{path} cannot be damaged")


# --- what becomes of it -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a reader made of a folder."""

    name: str
    """One of OUTCOMES."""
    detail: str = ""
    """Of an exception its last line."""
    digest: str = ""
    """Of what was read."""
    bytes: int = 0
    """The most memory that the process had at any time."""


def digest(value: Any) -> str:
    """A checksum of arrays, numbers and text, nested in mappings, sequences and dataclasses."""
    found = hashlib.sha256()
    for part in _parts(value):
        found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    yield f"{type(value).__name__}(".encode()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from (*_parts(key), *_parts(value[key]))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()
    yield b")"


def _take(read: Callable[[], Any]) -> Outcome:
    """Read, and tell refusals from errors that nobody meant."""
    try:
        return Outcome("same", digest=digest(read()))
    except UserError as error:
        return Outcome("refused", str(error))
    except BaseException as error:
        last = str(error).strip().splitlines() or [""]
        return Outcome("traceback", f"{type(error).__name__}: {last[-1][:300]} ({_place_of(error)})")


def _place_of(error: BaseException) -> str:
    """The last line of the project's own code that an error passed through."""
    here, place, trace = pathlib.Path(__file__).parents[1], "", error.__traceback__
    while trace is not None:
        file = pathlib.Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(here) and "tests" not in file.parts and ".venv" not in file.parts:
            place = f"{file.relative_to(here)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def in_child(read: Callable[[], Any], seconds: float) -> Outcome:
    """Read in a process of its own, which is killed where it takes longer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(read, writing)
    os.close(writing)
    process = os.pidfd_open(child)
    with open(reading, "rb") as answer:
        ended = bool(select.select([process], [], [], seconds)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        os.close(process)
        said = answer.read() if ended else b""
    taken = used.ru_maxrss * 1024
    if not ended:
        return Outcome("hang", f"more than {seconds} s", bytes=taken)
    if not said:
        return Outcome("traceback", f"the process ended with status {os.waitstatus_to_exitcode(status)}", bytes=taken)
    return dataclasses.replace(Outcome(**json.loads(said)), bytes=taken)


def _answer(read: Callable[[], Any], writing: int) -> None:
    """In a new process: read, write the outcome as JSON, and end at once."""
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, taken + ADDRESSES))
        os.write(writing, json.dumps(dataclasses.asdict(_take(read))).encode()[:60000])
        code = 0
    finally:
        os._exit(code)


# --- a run ------------------------------------------------------------------------------------------------------------


class Originals:
    """An original of each kind, made when it is first asked for; what a reader takes of it, and in how much memory."""

    def __init__(self, kinds: Mapping[str, Kind], folder: pathlib.Path, seconds: float):
        self._kinds, self._folder, self._seconds = kinds, folder, seconds
        self._made: dict[Callable[[pathlib.Path], None], pathlib.Path] = {}
        self._read: dict[str, Outcome] = {}
        self._idle = in_child(lambda: None, 60).bytes

    def whole(self, name: str) -> Outcome:
        """What is read of the original, for comparison."""
        if name not in self._read:
            kind = self._kinds[name]
            if kind.make not in self._made:
                place = self._made[kind.make] = self._folder / name
                place.mkdir()
                made = in_child(lambda: kind.make(place), seconds=300)
                if made.name != "same":
                    raise RuntimeError(f"no original of '{name}': {made.detail}")
            self._read[name] = self._on_a_copy(name, lambda copy: in_child(lambda: kind.read(copy), seconds=60))
            if self._read[name].name != "same":
                raise RuntimeError(f"the original of '{name}' is not read: {self._read[name].detail}")
        return self._read[name]

    def damage(self, name: str, number: int, seed: int) -> tuple[str, Outcome]:
        """Mutation `number` of a kind: what was done to which file, and what became of it."""
        whole, rng = self.whole(name), random.Random(zlib.crc32(f"{seed} {name} {number}".encode()))

        def judge(copy: pathlib.Path) -> tuple[str, Outcome]:
            patterns = self._kinds[name].damaged
            found = sorted({path for pattern in patterns for path in copy.glob(pattern) if path.is_file()})
            path = rng.choice([path for path in found if path.stat().st_size])
            size = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
            how = f"{mutate(path, rng)} of {path.relative_to(copy)}"
            return how, self._judge(in_child(lambda: self._kinds[name].read(copy), self._seconds), whole, size)

        return self._on_a_copy(name, judge)

    def _judge(self, outcome: Outcome, whole: Outcome, size: int) -> Outcome:
        if outcome.name != "hang" and outcome.bytes - self._idle > 2 * size + EXTRA:
            return dataclasses.replace(outcome, name="memory", detail=f"{(outcome.bytes - self._idle) / 1e6:.0f} MB")
        if outcome.name == "same" and outcome.digest != whole.digest:
            return dataclasses.replace(outcome, name="changed")
        return outcome

    def _on_a_copy(self, name: str, use: Callable[[pathlib.Path], Any]) -> Any:
        with tempfile.TemporaryDirectory(dir=self._folder) as beside:
            copy = pathlib.Path(beside, "copy")
            shutil.copytree(self._made[self._kinds[name].make], copy)
            return use(copy)


def is_fault(kind: Kind, outcome: Outcome) -> bool:
    return outcome.name in ("traceback", "hang", "memory") or (outcome.name == "changed" and kind.checksummed)


@dataclasses.dataclass
class Findings:
    """Outcomes counted, by kind; and the faults, in words."""

    counts: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, kinds: Mapping[str, Kind], name: str, number: int, how: str, outcome: Outcome) -> None:
        self.counts.setdefault(name, collections.Counter())[outcome.name] += 1
        if is_fault(kinds[name], outcome):
            self.faults.append(f"{name}:{number} {outcome.name}: {how}: {outcome.detail}")

    def as_text(self, kinds: Mapping[str, Kind]) -> str:
        width = max(map(len, kinds), default=0)
        lines = [f"{'kind':{width}} checksummed " + " ".join(f"{name:>9}" for name in OUTCOMES)]
        total = sum(self.counts.values(), collections.Counter())
        for name, counts in [*self.counts.items(), ("all", total)]:
            noticed = ("yes" if kinds[name].checksummed else "no") if name in kinds else ""
            lines.append(f"{name:{width}} {noticed:11} " + " ".join(f"{counts[one]:9}" for one in OUTCOMES))
        return "\n".join([*lines, "", f"{len(self.faults)} faults", *self.faults])


def run(
    kinds: Mapping[str, Kind], count: int, seed: int, only: str | None = None, seconds: float = SECONDS
) -> Findings:
    """Damage originals of these kinds in turn, `count` times in all; `only` KIND:NUMBER, that one alone.

    seconds: how long a reader may take.
    """
    names, findings = list(kinds), Findings()
    todo = [(names[number % len(names)], number // len(names)) for number in range(count)]
    if only is not None:
        name, _, number = only.partition(":")
        todo = [(name, int(number))]
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder, ProgressDisplay() as display:
        originals = Originals(kinds, pathlib.Path(folder), seconds)
        for done, (name, number) in enumerate(todo, 1):
            findings.add(kinds, name, number, *originals.damage(name, number, seed))
            display.update(Progress("mutations", done, len(todo), {"faults": len(findings.faults)}))
    return findings


def main(arguments: list[str] | None = None) -> int:
    from originals import KINDS  # late: imports all that the readers need

    parser = argparse.ArgumentParser(description="Damage files at random, and see how their readers take it.")
    parser.add_argument("--count", type=int, default=2500, help="how many mutations, over all kinds; default: 2500")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="repeat this mutation alone, with the same --seed")
    options = parser.parse_args(arguments)
    if options.only and not re.fullmatch(rf"({'|'.join(KINDS)}):\d+", options.only):
        parser.error(f"--only {options.only} is no KIND:NUMBER")
    names = [options.only.partition(":")[0]] if options.only else options.kinds or KINDS
    kinds = {name: KINDS[name] for name in names}
    findings = run(kinds, options.count, options.seed, options.only)
    print(findings.as_text(kinds))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
