"""Several processes, usually one a host, that compute as one (jax.distributed)."""

from __future__ import annotations

import dataclasses

import jax
from jax.experimental import multihost_utils

from experiments.errors import UsageError


@dataclasses.dataclass(frozen=True)
class HostOptions:
    """Whether this is one of several processes that compute as one."""

    distributed: bool = False
    """One of several processes that find each other by themselves: on a TPU pod, in Slurm, Open MPI or Kubernetes."""
    coordinator: str | None = None
    """Elsewhere, HOST:PORT: a free port of the first process's host,"""
    processes: int | None = None
    """how many processes there are,"""
    process: int | None = None
    """and which of them this is, from 0 on."""

    def join(self) -> None:
        """Become one of the processes that were asked for, before anything touches a device. Raises UsageError."""
        given = (self.coordinator, self.processes, self.process)
        if not self.distributed and given == (None, None, None):
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
    """Whether the processes were asked to end: `here` of a single one; of several, all get the same answer at the same
    step, by jax's own service, which then is what notices a SIGTERM of any of them."""
    return here if jax.process_count() == 1 else multihost_utils.reached_preemption_sync_point(step)


def wait_for_all(what: str) -> None:
    """Return when every process has come to the same place, which `what` names."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
