"""Tables of fine-tuning runs: what a run began with, what is averaged, and that runs of agents are another table."""

import json
import pathlib

import numpy as np
import pytest

from agent.events import Clock
from experiments.errors import UsageError
from experiments.reports import adaptation, tables
from experiments.reports.page import write_report
from experiments.runs.metrics_log import Metrics
from experiments.runs.run_folder import RunFolder

CONFIG = {"data": [{"folder": "data/reach"}], "source": "model", "preset": "debug", "kind": "finetune"}


def run(folder, error, trajectories=5, seed=0, steps=(2, 2), **changes):
    """A run whose model was evaluated twice, the second time with this error."""
    made, stages = RunFolder(folder), {"tokenizer": {"steps": steps[0]}, "transformer": {"steps": steps[1]}}
    config = CONFIG | stages | {"trajectories": trajectories, "seed": seed} | changes
    with made.claim(config, "whatever was typed"), Metrics(made.metrics) as metrics:
        for step, mse in ((1, 1.0), (2, error)):
            evaluated = {"model/mse_imagined": mse, "model/mse_copy_last": 0.004, "model/mse_shuffled_actions": 0.003}
            metrics.write(Clock(), {"updates": step, "validation/tokenizer/future_mse": 0.1} | evaluated)
    return made


@pytest.fixture
def runs(tmp_path):
    return [
        run(tmp_path / "full0", 0.001),
        run(tmp_path / "full1", 0.002, seed=1),
        run(tmp_path / "new", 0.0035, trajectories=20, kind="pretrain"),
        run(tmp_path / "zero", 0.003, trajectories=None, steps=(0, 0)),
    ]


def test_the_last_evaluation_of_each_run_counts_and_seeds_are_averaged(runs, tmp_path):
    (tmp_path / "runs.csv").write_text(tables.as_csv(runs))
    rows = adaptation.read_table(tmp_path / "runs.csv")
    groups = adaptation.group_rows(rows)
    assert list(groups) == [("reach", "from scratch"), ("reach", "zero-shot"), ("reach", "full")]
    assert {k: len(v) for k, v in groups["reach", "full"].items()} == {5: 2}
    full = next(line for line in adaptation.as_text(rows).splitlines() if " full " in line)
    assert full.split() == ["reach", "full", "5", "2", "1.50", "1.00", "to", "2.00", "4.00", "3.00"]
    drawn = adaptation.draw(rows).axes[0]
    lines = {line.get_label(): line for line in drawn.lines}
    np.testing.assert_allclose(lines["full"].get_ydata(), [1.5])
    np.testing.assert_allclose(lines["zero-shot"].get_ydata(), [3.0, 3.0])
    assert "copying the last frame" in lines


def test_a_run_that_was_not_evaluated_is_named(runs, tmp_path, ivideogpt):
    """Fault 6: it was dropped without a word."""
    made = RunFolder(tmp_path / "small")
    config = CONFIG | {"tokenizer": {"steps": 2}, "transformer": {"steps": 2}, "trajectories": 1, "seed": 7}
    with made.claim(config, "typed"), Metrics(made.metrics) as metrics:
        metrics.write(Clock(), {"updates": 4, "validation/tokenizer/future_mse": 0.1})
    never = RunFolder(tmp_path / "never")
    with never.claim(config, "typed"):
        pass
    table = tmp_path / "runs.csv"
    said = ivideogpt("report", *(each.path for each in [*runs, made, never]), "--csv", table)
    assert f"{never.path} was never evaluated: it has no row in {table}" in said.err
    said = ivideogpt("adaptation", table, "--out", tmp_path / "a.png")
    assert "not evaluated, and left out: full on reach, trajectories 1, seed 7" in said.out.splitlines()
    assert said.out.count("left out") == 1


def test_what_evaluate_found_of_a_run_is_in_its_last_row_and_can_be_compared(runs, tmp_path):
    with pytest.raises(UsageError, match=r"no run of .* has a best_ssim: 'ivideogpt evaluate RUN"):
        (tmp_path / "before.csv").write_text(tables.as_csv(runs))
        adaptation.read_table(tmp_path / "before.csv", "best-ssim")
    ssim = {"best_of_7": 0.9, "copy_last": 0.8}
    for made in runs[:2]:
        (made.path / "evaluation").mkdir()
        found = {"protocol": {"samples": 7}, "metrics": {"ssim": ssim}}
        (made.path / "evaluation" / "evaluation.json").write_text(json.dumps(found))
    assert [row["best_ssim"] for row in tables.rows(runs[0])] == ["", 0.9]
    assert tables.rows(runs[0])[-1]["evaluated_samples"] == 7
    (tmp_path / "runs.csv").write_text(tables.as_csv(runs))
    rows = adaptation.read_table(tmp_path / "runs.csv", "best-ssim")
    said = adaptation.as_text(rows, "best-ssim").splitlines()
    assert said[0] == "SSIM of the best of 7 samples, hundredths" and len(said) == 3
    assert said[-1].split() == ["reach", "full", "5", "2", "90.00", "90.00", "to", "90.00", "80.00"]
    np.testing.assert_allclose(adaptation.draw(rows, "best-ssim").axes[0].lines[0].get_ydata(), [90])
    rows[0] |= {"evaluated_samples": "100"}
    with pytest.raises(UsageError, match="best of 100, 7 samples"):
        adaptation.as_text(rows, "best-ssim")


def test_a_page_compares_them(runs, tmp_path):
    assert "zero" in write_report(runs, tmp_path / "page.html").read_text()


HEAD = ",".join((*tables.TRAINING, *(name.removeprefix("model/") for name in tables.MODEL)))
"""The columns that are needed."""
ROW = "finetune,full,reach,model,2,2,5,debug,0,,0.1,0.2,0.3,,"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no column kind"),
        (
            "kind,task,algorithm,preset,seed,pretrained,settings,success\nagent,a,b,c,0,,,1\n",
            "it has no column beginning",
        ),
        (f"{HEAD}\n", "it has no rows"),
        (f"{HEAD}\n{ROW},\n", "line 2: a row with more or fewer cells"),
        (f"{HEAD}\n{ROW}\n{ROW[:-1]}\n", "line 3: a row with more or fewer cells"),
        (f"{HEAD}\n{ROW.replace('0.1', 'x')}\n", "no number"),
        (f"{HEAD}\n{ROW.replace(',5,', ',few,')}\n", "no number"),
        (f"{HEAD}\n{ROW.replace('full', 'half')}\n", "beginning 'half' is none of"),
        (f"{HEAD}\n{ROW.replace('0.1', '')}\n", "has a mse_imagined"),
    ],
)
def test_another_table_is_refused_in_a_sentence(tmp_path, text, said):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"other\.csv.*{said}") as error:
        adaptation.read_table(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="cannot be read"):
        adaptation.read_table(tmp_path / "missing.csv")


def test_what_was_typed_tells_no_runs_apart(tmp_path):
    """A command may be anything, or missing: what a run was is in the other columns."""
    head, row = f"{HEAD},command\n", f"{ROW},ivideogpt pretrain --mode 'x\n"
    (tmp_path / "typed.csv").write_text(head + row + row.replace("0.1", "0.4").replace("pretrain", "finetune --seed 1"))
    (found,) = adaptation.read_table(tmp_path / "typed.csv")
    assert (found["beginning"], found["value"]) == ("full", pytest.approx(400))


def test_the_table_that_is_kept_can_be_read():
    rows = adaptation.read_table(pathlib.Path(__file__).parents[3] / "experiments" / "results" / "adaptation.csv")
    assert "copy-last" in adaptation.as_text(rows) and {row["kind"] for row in rows} <= {"pretrain", "finetune"}
