"""`ivideogpt convert-data`: what was typed into a source, a writer and a conversion between them."""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import sys
import zlib
from collections.abc import Sequence

from experiments.data import held_out
from experiments.data.convert import convert, describe, describe_damage, select_episodes, verify
from experiments.data.converters.registry import FORMATS
from experiments.data.converters.source import ConvertOptions
from experiments.data.ray_tasks import read_in_tasks
from experiments.data.shards import HELD_OUT
from experiments.data.writer import StoreWriter
from experiments.runs.outputs import check_output
from experiments.runs.preemption import stop_request
from experiments.runs.progress import ProgressDisplay, counted
from experiments.runs.ray_engine import check_ray


def convert_data(arguments: Sequence[str], description: str) -> int:
    """Convert, with progress, and print what was made and what was skipped; exit code 1 where most was skipped.

    Raises Preempted after a SIGTERM or Ctrl-C, once the episode that it fell into is kept.
    """
    typed = _parser(description).parse_args(arguments)
    if typed.engine == "ray":
        check_ray()
    check_output(typed.out, folder=True)
    only, without, named = (path and held_out.read_names(path) for path in (typed.only, typed.without, typed.held_out))
    action_keys = tuple(typed.action_keys) if typed.action_keys else None
    options = ConvertOptions(typed.resolution, typed.image_key, action_keys, named)
    opened = FORMATS[typed.format](typed.source, options)
    source = select_episodes(opened, only, without or ())
    settings = {
        "format": typed.format,
        "source": "/".join(typed.source.resolve().parts[-2:]),  # the last alone may be a version, or `train`
        "resolution": options.resolution,
        "image_key": options.image_key,
        "action_keys": options.action_keys,
        "only": _checksum(only),
        "without": _checksum(without),
    }
    if nobody_learns := opened.held_out if named is None else named:
        settings[HELD_OUT] = sorted(nobody_learns)
    with stop_request() as stop, StoreWriter(typed.out, settings) as writer, ProgressDisplay() as display:
        if typed.verify:
            for progress in verify(writer):
                display.update(progress)
                stop.refuse_to_go_on("while everything was read")
        for line in describe_damage(writer):
            display.message(line)
        engine = functools.partial(read_in_tasks, workers=typed.workers) if typed.engine == "ray" else None
        converting = convert(source, writer, typed.limit, typed.workers, typed.retry_skipped, engine)
        with contextlib.closing(converting):  # and with it the threads that read ahead
            for progress in converting:
                display.update(progress)
                stop.refuse_to_go_on(f"with {counted(len(writer.done), 'episode')} done")
        said, skipped, total = describe(typed.out, writer), len(writer.skipped), len(writer.done)
    print(said, flush=True)
    if skipped <= total / 2:
        return 0
    print(
        f"ivideogpt: {skipped} of {total} episodes were skipped; the first that can be read decides which actions and "
        f"rewards a data set has: if it is the odd one, leave it out (--without FILE) and convert into another folder",
        file=sys.stderr,
    )
    return 1


def _parser(description: str) -> argparse.ArgumentParser:
    formats = "\n\n".join(f"{name}: {(opens.__doc__ or '').strip()}" for name, opens in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="ivideogpt convert-data",
        description=f"{description} The same command goes on where it was stopped, and makes damaged shards again.",
        epilog=f"formats:\n\n{formats}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("source", type=pathlib.Path, help="the folder, or the file, to read")
    parser.add_argument("out", type=pathlib.Path, help="the data set folder to write")
    parser.add_argument(
        "--resolution",
        type=_positive,
        help="pixels of the shorter side at most; default: pictures stay as they are, so that a random crop of one is "
        "as sharp as the whole. Fewer save room",
    )
    parser.add_argument("--image-key", help="the camera; default: the format's or the data set's usual one")
    parser.add_argument("--action-keys", nargs="+", help="what is joined into an action; default: the usual")
    names = "a list of names, one per line"
    parser.add_argument("--only", type=pathlib.Path, metavar="FILE", help=f"{names}: take these episodes alone")
    parser.add_argument("--without", type=pathlib.Path, metavar="FILE", help=f"{names}: leave these episodes out")
    parser.add_argument(
        "--held-out", type=pathlib.Path, metavar="FILE",
        help=f"{names}: nobody learns from these; they are the set's validation split. Default: what the format says",
    )  # fmt: skip
    parser.add_argument("--limit", type=_positive, help="the first so many episodes only")
    parser.add_argument(
        "--workers", type=_positive, default=1,
        help="threads that read and decode episodes, or Ray tasks; default: 1. A thread holds one episode in memory, a "
        "task those of one file; what is written is the same",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("threads", "ray"), default="threads",
        help="what reads; default: threads. ray: a task per file of the source, on this machine or on the cluster that "
        "RAY_ADDRESS names, again where a worker dies",
    )  # fmt: skip
    parser.add_argument("--retry-skipped", action="store_true", help="read again what was skipped before")
    parser.add_argument(
        "--verify", action="store_true",
        help="first read all that was converted, and make shards again in which a checksum does not hold",
    )  # fmt: skip
    return parser


def _checksum(names: frozenset[str] | None) -> str | None:
    """Which names those are, whatever the file is called that lists them."""
    return names if names is None else f"{len(names)} names {zlib.crc32(' '.join(sorted(names)).encode()):08x}"


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
