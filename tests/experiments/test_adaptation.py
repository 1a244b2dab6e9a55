"""Tables of fine-tuning runs: what a run began with, what is averaged, and that runs of agents are another table."""

import json

import numpy as np
import pytest

from agent.events import Clock
from experiments import adaptation, summary
from experiments.errors import UsageError
from experiments.metrics import Metrics
from experiments.report import write_report
from experiments.run_folder import RunFolder

CONFIG = {"data": [{"folder": "data/reach"}], "source": "model", "preset": "debug", "tokenizer": {"steps": 2}}


def run(folder, command, error, trajectories=5, seed=0):
    """A run whose model was judged twice, the second time with this error."""
    made = RunFolder(folder)
    settings = CONFIG | {"transformer": {"steps": 0}, "trajectories": trajectories, "seed": seed}
    with made.claim(settings, f"ivideogpt {command} --seed {seed}"), Metrics(made.metrics) as metrics:
        for step, mse in ((1, 1.0), (2, error)):
            judged = {"model/mse_imagined": mse, "model/mse_repeat": 0.004, "model/mse_swapped": 0.003}
            metrics.write(Clock(), {"updates": step, "validation/tokenizer/future_mse": 0.1} | judged)
    return made


@pytest.fixture
def runs(tmp_path):
    return [
        run(tmp_path / "full0", "finetune model", 0.001),
        run(tmp_path / "full1", "finetune model", 0.002, seed=1),
        run(tmp_path / "new", "pretrain transformer --tokenizer model", 0.0035, trajectories=20),
        run(tmp_path / "zero", "finetune model --mode zero-shot", 0.003, trajectories=None),
    ]


def test_the_last_judgement_of_each_run_counts_and_seeds_are_averaged(runs, tmp_path):
    (tmp_path / "runs.csv").write_text(summary.as_csv(runs))
    rows = adaptation.read_table(tmp_path / "runs.csv")
    groups = adaptation.grouped(rows)
    assert list(groups) == [("reach", "from scratch"), ("reach", "zero-shot"), ("reach", "full")]
    assert {k: len(v) for k, v in groups["reach", "full"].items()} == {5: 2}
    full = next(line for line in adaptation.as_text(rows).splitlines() if " full " in line)
    assert full.split() == ["reach", "full", "5", "2", "1.50", "1.00", "to", "2.00", "4.00", "3.00"]
    drawn = adaptation.draw(rows).axes[0]
    lines = {line.get_label(): line for line in drawn.lines}
    np.testing.assert_allclose(lines["full"].get_ydata(), [1.5])
    np.testing.assert_allclose(lines["zero-shot"].get_ydata(), [3.0, 3.0])
    assert "repeating the last frame" in lines


def test_what_evaluate_found_of_a_run_is_in_its_last_row_and_can_be_compared(runs, tmp_path):
    with pytest.raises(UsageError, match=r"no run of .* has a best_ssim: 'ivideogpt evaluate RUN"):
        (tmp_path / "before.csv").write_text(summary.as_csv(runs))
        adaptation.read_table(tmp_path / "before.csv", "best-ssim")
    ssim = {"best_of_7": 0.9, "repeat": 0.8}
    for made in runs[:2]:
        (made.path / "evaluation").mkdir()
        found = {"protocol": {"samples": 7}, "metrics": {"ssim": ssim}}
        (made.path / "evaluation" / "evaluation.json").write_text(json.dumps(found))
    assert [row["best_ssim"] for row in summary.rows(runs[0])] == ["", 0.9]
    assert summary.rows(runs[0])[-1]["evaluated_samples"] == 7
    (tmp_path / "runs.csv").write_text(summary.as_csv(runs))
    rows = adaptation.read_table(tmp_path / "runs.csv", "best-ssim")
    said = adaptation.as_text(rows, "best-ssim").splitlines()
    assert said[0] == "SSIM of the best of 7 samples, hundredths" and len(said) == 3
    assert said[-1].split() == ["reach", "full", "5", "2", "90.00", "90.00", "to", "90.00", "80.00"]
    np.testing.assert_allclose(adaptation.draw(rows, "best-ssim").axes[0].lines[0].get_ydata(), [90])
    rows[0] |= {"evaluated_samples": "100"}
    with pytest.raises(UsageError, match="best of 100, 7 samples"):
        adaptation.as_text(rows, "best-ssim")


def test_a_page_compares_them_and_other_tables_are_refused(runs, tmp_path):
    assert "zero" in write_report(runs, tmp_path / "page.html").read_text()
    (tmp_path / "other.csv").write_text("task,success\nreach,1\n")
    with pytest.raises(UsageError, match="no table of fine-tuning runs"):
        adaptation.read_table(tmp_path / "other.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        adaptation.read_table(tmp_path / "missing.csv")
