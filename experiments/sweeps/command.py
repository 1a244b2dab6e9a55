"""`ivideogpt sweep`: run a sweep's file, and see, rank or stop what runs."""

from __future__ import annotations

import argparse
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

from experiments.runs.preemption import stop_request
from experiments.sweeps import ablation, config, results, targets
from experiments.sweeps.folder import FAILED, RUNNING, SweepFolder
from experiments.sweeps.session import Session
from experiments.sweeps.table import as_lines


def sweep(arguments: Sequence[str], description: str) -> int:
    """`sweep FILE.yaml ...`, or `sweep status|best|stop|page FOLDER`."""
    if arguments and arguments[0] in _ABOUT:
        return _about(arguments)
    options = _parser(description).parse_args(arguments)
    asked = config.load(options.file)
    length = targets.check(asked)
    folder = SweepFolder(options.sweep_dir or pathlib.Path("runs") / options.file.stem)
    if options.dry_run:
        return _say_what_would_run(asked, folder, options)
    with folder.claim(asked), stop_request() as stop:
        early = asked.early_stopping is not None and options.backend == "ray"
        session = Session(asked, folder, length, stop, again=early)
        try:
            _run(session, options)
        finally:
            session.close()
        session.refuse_to_go_on()
    return _conclude(folder, asked)


def _parser(description: str) -> argparse.ArgumentParser:
    words = {name: f"{name} FOLDER{' [--follow]' * (name == 'status')}" for name in _ABOUT}
    about = "\n".join(f"  ivideogpt sweep {words[name]:26} {action.__doc__}" for name, action in _ABOUT.items())
    parser = argparse.ArgumentParser(
        prog="ivideogpt sweep",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"about a sweep that was begun\n{about}",
    )
    add = parser.add_argument
    add("file", type=pathlib.Path, help="the sweep as YAML")
    add(
        "--sweep-dir",
        type=pathlib.Path,
        help="its folder, where the same command goes on (default: runs/<file's name>)",
    )
    backends = "ray: Ray Tune (default); local: one trial after the other; submitit: Slurm"
    add("--backend", choices=("ray", "local", "submitit"), default="ray", help=backends)
    add("--address", help="of a Ray cluster: HOST:PORT, or auto (default: this machine alone)")
    clusters = "of submitit: slurm (default), or processes of this machine, to try it"
    add("--cluster", choices=("slurm", "local", "debug"), default="slurm", help=clusters)
    add("--dry-run", action="store_true", help="print the trials, with submitit the sbatch script; start nothing")
    return parser


def _run(session: Session, options: argparse.Namespace) -> None:
    if options.backend == "local":
        from experiments.sweeps import local

        local.run(session)
    elif options.backend == "submitit":
        from experiments.sweeps import on_slurm

        on_slurm.submit(session, options.cluster)
    else:
        from experiments.sweeps.packages import need

        need("ray.tune")
        from experiments.sweeps import on_ray

        on_ray.run(session, options.address)


def _say_what_would_run(asked: config.Sweep, folder: SweepFolder, options: argparse.Namespace) -> int:
    if options.backend == "submitit":
        from experiments.sweeps import on_slurm

        print(on_slurm.script(asked, folder))
    if asked.search.kind == "optuna":
        print(f"{asked.search.samples} points of {asked.search.sampler}, with seeds {list(asked.seeds)}")
        return 0
    for point in targets.points_of(asked):
        for seed in asked.seeds:
            print(" ".join(["ivideogpt", *targets.words(asked, point, seed)]))
    return 0


def _conclude(folder: SweepFolder, asked: config.Sweep) -> int:
    """The last words, and the exit code: 1 where a trial was given up."""
    standings = folder.standings()
    failed = sorted(name for name, standing in standings.items() if standing.state == FAILED)
    for name in failed:
        print(f"{name} failed: {standings[name].message}; see {folder.log(name)}")
    _print_results(folder, asked, 1)
    print(f"page: {folder.page}")
    return 1 if failed else 0


# --- about a folder ---------------------------------------------------------------------------------------------------


def _about(arguments: Sequence[str]) -> int:
    name, *rest = arguments
    action = _ABOUT[name]
    parser = argparse.ArgumentParser(prog=f"ivideogpt sweep {name}", description=action.__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    if name == "status":
        parser.add_argument("--follow", action="store_true", help="draw it again every few seconds")
    options = parser.parse_args(rest)
    folder = SweepFolder(options.folder)
    return action(folder, folder.read(), options)


def _status(folder: SweepFolder, asked: config.Sweep, options: argparse.Namespace) -> int:
    """say how each trial stands"""
    while True:
        lines = as_lines(asked, folder.standings(), None, shutil.get_terminal_size().columns)
        print(("\x1b[H\x1b[J" if options.follow else "") + "\n".join(lines), flush=True)
        if not options.follow:
            return 0
        time.sleep(2)


def _best(folder: SweepFolder, asked: config.Sweep, options: argparse.Namespace) -> int:
    """say which points were best, with their commands"""
    return _print_results(folder, asked, 5)


def _print_results(folder: SweepFolder, asked: config.Sweep, count: int) -> int:
    """What an ablation found, and so many of the best points."""
    ranked = results.rank(folder, asked)
    if lines := ablation.compare(asked, ranked):
        print(ablation.as_text(asked, lines))
    measured = [result for result in ranked if result.mean is not None]
    if not measured:
        print(f"no trial has measured {asked.objective.name} yet")
    for place, result in enumerate(measured[:count], 1):
        missing = "" if result.is_whole(len(asked.seeds)) else " (not all of its trials are over)"
        print(f"{place}. {results.describe(asked, result)}{missing}")
        print(f"   {result.command}")
        print(f"   in {', '.join(str(folder.run_folder(name).path) for name in results.folders(result))}")
    return 0


def _stop(folder: SweepFolder, asked: config.Sweep, options: argparse.Namespace) -> int:
    """save and end every trial that runs, wherever it runs"""
    running = [name for name, standing in folder.standings().items() if standing.state == RUNNING]
    folder.stop_file.touch()
    print(f"{len(running)} running trials save themselves; the same 'ivideogpt sweep' goes on from there")
    return 0


def _page(folder: SweepFolder, asked: config.Sweep, options: argparse.Namespace) -> int:
    """write the page anew"""
    from experiments.sweeps.page import write_page  # late: matplotlib

    print(write_page(folder))
    return 0


_ABOUT: dict[str, Callable[[SweepFolder, config.Sweep, argparse.Namespace], int]] = {
    "status": _status,
    "best": _best,
    "stop": _stop,
    "page": _page,
}
