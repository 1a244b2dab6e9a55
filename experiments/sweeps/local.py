"""`--backend local`: one trial after the other, in processes of this machine, without Ray."""

from __future__ import annotations

import os
import time

from experiments.sweeps.folder import WAITING, Standing, Trial
from experiments.sweeps.process import POLL_SECONDS, TrialProcess, first_devices
from experiments.sweeps.session import Session, refuse_what_ray_alone_does


def run(session: Session) -> None:
    """Every trial that is left, until somebody asks for the end."""
    refuse_what_ray_alone_does(session.sweep, "local")
    while not session.stopping and (trial := session.queue.next()) is not None:
        while _run_once(session, trial).state == WAITING and not session.stopping:
            pass  # it died, and goes on from its newest checkpoint
        session.finished(trial)


def _run_once(session: Session, trial: Trial) -> Standing:
    """One process of a trial, from its start to its end or to the request to stop."""
    process = TrialProcess(session.job(trial), session.sweep, first_devices(session.sweep, os.environ))
    try:
        while True:
            standing = process.poll()
            session.show()
            if process.over or standing.state == WAITING:
                return standing
            if session.stopping:
                return process.stop()
            time.sleep(POLL_SECONDS)
    finally:
        process.stop()
