"""Kill one run at many random moments, and compare its end with that of a run that nobody killed.

    python tests/end_to_end/kill_many.py [--kills 20] [--seed 0] [--preset debug] [--folder DIR] [-- any argument of
    train]

Prints one JSON object; the exit code is 0 where the last states are equal bit for bit and no finished episode was lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

KEEP_PROGRAMS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Every session compiles the same programs: also small ones are worth keeping."""
SHARE = 0.6
"""Of the time a run takes: how long a session lives at most. Longer ones would end the run within a few kills."""
STARTUP_VARIES = ("wall_seconds", "bytes/run_folder")
"""What metrics.jsonl says of the process rather than of the run."""


def start(run: pathlib.Path, preset: str, more: list[str]) -> subprocess.Popen:
    """`ivideogpt train` in the background; what it says is added to `<run>.log`."""
    command = [sys.executable, "-m", "experiments.cli", "train", "--preset", preset, "--run-dir", str(run), *more]
    with open(log_of(run), "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | KEEP_PROGRAMS)


def log_of(run: pathlib.Path) -> pathlib.Path:
    return run.with_name(run.name + ".log")


def words_of(run: pathlib.Path) -> str:
    """What its sessions have said so far."""
    return log_of(run).read_text() if log_of(run).exists() else ""


def lines_of(run: pathlib.Path) -> list[dict]:
    """The whole lines of metrics.jsonl, without what may differ between two runs of one state."""
    path = run / "metrics.jsonl"
    raw = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name not in STARTUP_VARIES} for line in raw]


def fingerprint_of(run: pathlib.Path) -> str | None:
    """What the last line of a finished run says of its state."""
    lines = lines_of(run)
    return lines[-1].get("state_fingerprint") if lines else None


def episodes_of(run: pathlib.Path) -> dict[str, str]:
    """Digest of every real episode on disk, by the name of its file."""
    files = (run / "replay" / "real").glob("[0-9]*.npz")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclasses.dataclass
class Disturbed:
    """What happened to a run that was killed again and again."""

    kills: int = 0
    kills_in_the_loop: int = 0  # the others fell into the start of a process or the collection of demonstrations
    seen: dict[str, str] = dataclasses.field(default_factory=dict)  # episodes that were finished at some kill

    def lost(self, run: pathlib.Path) -> list[str]:
        """Episodes that were finished once and are missing or changed now."""
        now = episodes_of(run)
        return sorted(name for name, digest in self.seen.items() if now.get(name) != digest)


def kill_many(run: pathlib.Path, preset: str, more: list[str], kills: int, longest: float, seed: int) -> Disturbed:
    """Start the run and kill it, `kills` times, then let it end. A session lives up to `longest` seconds."""
    rng, happened = random.Random(seed), Disturbed()
    while happened.kills < kills:
        before, said = lines_of(run), len(words_of(run))
        session = start(run, preset, more)
        wait_for_end(run, session, rng.uniform(0, longest))
        if session.poll() is not None:
            raise RuntimeError(f"the run ended by itself with {session.returncode}; see {log_of(run)}")
        session.kill()
        session.wait()
        happened.kills += 1
        happened.kills_in_the_loop += lines_of(run) != before or "going on from" in words_of(run)[said:]
        happened.seen.update(episodes_of(run))
    finish(run, preset, more)
    return happened


def wait_for_end(run: pathlib.Path, session: subprocess.Popen, seconds: float) -> None:
    """Return after that time, or where the session comes to the run's end: it is killed there, saving for the last
    time."""
    end, old = time.monotonic() + seconds, fingerprint_of(run)
    while time.monotonic() < end and session.poll() is None:
        new = fingerprint_of(run)
        if new is None:
            old = None  # the session has begun, and dropped what was written after its checkpoint
        elif old is None:
            return
        time.sleep(0.01)


def finish(run: pathlib.Path, preset: str, more: list[str]) -> float:
    """Let the run end; returns the seconds it took."""
    begun = time.monotonic()
    if start(run, preset, more).wait():
        raise RuntimeError(f"the run failed; see {log_of(run)}")
    return time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--preset", default="debug")
    parser.add_argument("--folder", type=pathlib.Path, help="where the two runs go; default: a temporary folder")
    parser.add_argument("train", nargs="*", help="arguments of train, after --")
    options = parser.parse_args()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="kill_many-"))
    folder.mkdir(parents=True, exist_ok=True)
    unkilled, killed = folder / "unkilled", folder / "killed"
    finish(folder / "warming", options.preset, options.train)  # compiles
    seconds = finish(unkilled, options.preset, options.train)
    happened = kill_many(killed, options.preset, options.train, options.kills, SHARE * seconds, options.seed)
    fingerprints = [fingerprint_of(run) for run in (unkilled, killed)]
    result = {
        "kills": happened.kills,
        "kills_in_the_loop": happened.kills_in_the_loop,
        "seconds_unkilled": round(seconds, 1),
        "longest_session_seconds": round(SHARE * seconds, 1),
        "episodes": len(episodes_of(killed)),
        "episodes_lost": len(happened.lost(killed)),
        "same_episodes_as_unkilled": episodes_of(killed) == episodes_of(unkilled),
        "same_metrics_as_unkilled": lines_of(killed) == lines_of(unkilled),
        "fingerprints": fingerprints,
        "equal": None not in fingerprints and len(set(fingerprints)) == 1,
    }
    print(json.dumps(result, indent=2))
    return 0 if result["equal"] and not result["episodes_lost"] else 1


if __name__ == "__main__":
    sys.exit(main())
