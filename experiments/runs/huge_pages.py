"""Larger memory pages on Linux. On a CPU, JAX asks for fresh memory in every run of a program, and half of the time of
an operation that only moves data went into making small pages: an actor-critic update took 1.1 to 1.3 times as long.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping

SETTING = "GLIBC_TUNABLES"
LARGE = "glibc.malloc.hugetlb=1"
KERNEL = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def asked_for(environment: Mapping[str, str], kernel: pathlib.Path = KERNEL) -> dict[str, str] | None:
    """The environment in which the C library asks for large pages; None where it does so, or the kernel does not mind.

    A setting of GLIBC_TUNABLES, even an empty one, is left as it is.
    """
    try:
        waits_to_be_asked = "[madvise]" in kernel.read_text()
    except OSError:
        return None
    return {**environment, SETTING: LARGE} if waits_to_be_asked and SETTING not in environment else None


def restart_with_them() -> None:
    """Begin this process again, as the same one for the system, where it has to be asked: malloc is set up before
    Python."""
    environment = asked_for(os.environ)
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
