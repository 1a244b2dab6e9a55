"""Several processes, usually one a host, that compute as one (jax.distributed)."""

from __future__ import annotations

import argparse

import jax
from jax.experimental import multihost_utils

from experiments.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that `join` reads."""
    parser.add_argument(
        "--distributed", action="store_true",
        help="one of several processes that find each other by themselves: on a TPU pod, in Slurm, Open MPI or Kubernetes",
    )  # fmt: skip
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="elsewhere: a free port of the first process's host,")
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes there are,")
    parser.add_argument("--process", type=int, metavar="I", help="and which of them this is, from 0 on")


def join(options: argparse.Namespace) -> None:
    """Become one of the processes that were asked for, before anything touches a device. Raises UsageError."""
    given = (options.coordinator, options.processes, options.process)
    if not options.distributed and given == (None, None, None):
        return
    if None in given and given != (None, None, None):
        raise UsageError("--coordinator, --processes and --process go together; or --distributed alone")
    try:
        jax.distributed.initialize(*given)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"the processes did not find each other: {str(error).partition(chr(10))[0]}") from error


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def asked_to_end(here: bool, step: int) -> bool:
    """Whether the processes were asked to end: `here` of a single one; of several, all get the same answer at the same step, by
    jax's own service, which then is what notices a SIGTERM of any of them."""
    return here if jax.process_count() == 1 else multihost_utils.reached_preemption_sync_point(step)


def wait_for_all(what: str) -> None:
    """Return when every process has come to the same place, which `what` names."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
