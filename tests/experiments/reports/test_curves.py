"""Tables of evaluations: when a run solves its task, and what is drawn of several seeds."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import cli
from experiments.errors import UsageError
from experiments.reports import curves
from experiments.reports.scores import score

ROOT = pathlib.Path(__file__).parents[3]


def rows(
    algorithm: str,
    seed: int,
    success: list[float],
    task: str = "handle-press",
    settings: str = "",
    pretrained: str = "",
) -> list[dict]:
    return [
        {"task": task, "algorithm": algorithm, "preset": "laptop", "seed": seed, "success": share}
        | {"pretrained": pretrained, "settings": settings}
        | {"return": 10.0 * share, "agent_steps": 100.0 * i, "env_steps": 200.0 * i, "wall_seconds": 60.0 * i}
        for i, share in enumerate(success)
    ]


def test_a_run_is_first_solved_at_its_first_evaluation_of_that_share():
    table = rows("mbpo", 0, [0, 0.79, 0.8, 0.2, 1.0]) + rows("drqv2", 0, [0.0, 0.5])
    drqv2, mbpo = curves.summarize(reversed(table))
    assert (mbpo["agent_steps"], mbpo["env_steps"], mbpo["wall_seconds"]) == (200, 400, 120)
    assert (drqv2["agent_steps"], drqv2["last_success"]) == ("", 0.5)
    assert "never" in curves.as_text([drqv2, mbpo])


def test_seeds_are_joined_where_all_were_evaluated():
    table = rows("mbpo", 0, [0.0, 0.5, 1.0]) + rows("mbpo", 1, [1.0, 0.5])
    figure = curves.draw(table)
    *thin, thick = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1 and line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in thin] == [3, 2]
    np.testing.assert_allclose(thick.get_ydata(), [0.5, 0.5])
    returns = curves.draw(table, of="return").axes[0].lines[-1]
    np.testing.assert_allclose(returns.get_ydata(), [5, 5])


def test_runs_of_other_settings_are_lines_of_their_own():
    """As in an ablation: two runs of one seed are not one curve, and what they share is not said."""
    shared = "schedule.random_agent_steps=200"
    plain = rows("mbpo", 0, [0.0, 0.5, 1.0], settings=shared)
    short = rows("mbpo", 0, [0.0, 0.1, 0.2], settings=f"mbpo.model.horizon=3 {shared}")
    begun = rows("mbpo", 0, [0.3, 0.4, 0.5], settings=shared, pretrained="laptop-metaworld")
    assert len(curves.group_rows(plain + short + begun)) == 3
    shown = [text.get_text() for text in curves.draw(plain + short + begun).axes[0].get_legend().get_texts()]
    others = ["mbpo, mbpo.model.horizon=3 (1 seed)", "mbpo, pretrained=laptop-metaworld (1 seed)"]
    assert sorted(shown) == ["mbpo (1 seed)", *others]
    said = curves.as_text(curves.summarize(plain + short + begun))
    assert "mbpo.model.horizon=3" in said and "pretrained=laptop-metaworld" in said and shared not in said


def test_evaluations_are_in_the_order_of_their_steps_also_as_a_file_holds_them():
    table = [row | {"agent_steps": str(100 * i)} for i, row in enumerate(rows("mbpo", 0, [0.1] * 11))]
    (found,) = curves.group_rows(reversed(table)).values()
    assert [row["agent_steps"] for row in found] == [str(100 * i) for i in range(11)]


def test_of_many_settings_a_name_holds_the_fewest_that_tell_runs_apart():
    learned = rows("mbpo", 0, [0.0, 0.5], settings="a=1 b=2 c=3 same=0", pretrained="laptop-metaworld")
    bound = rows("mbpo", 0, [0.0, 0.5], settings="mbpo.model.imagination=simulator same=0")
    other = rows("mbpo", 0, [0.0, 0.5], settings="mbpo.model.imagination=copy-last same=0")
    runs = curves.group_rows(learned + bound + other)
    names = ["mbpo", "mbpo, mbpo.model.imagination=copy-last", "mbpo, mbpo.model.imagination=simulator"]
    assert sorted(curves.labels(runs).values()) == names
    assert curves.settings_beside(runs) == {"mbpo": ["a=1", "b=2", "c=3", "pretrained=laptop-metaworld"]}
    assert sorted(curves.labels(curves.group_rows(learned + bound)).values()) == [names[0], names[2]]
    _, notes = score(learned + bound + other)
    assert [note.what for note in notes] == ["mbpo also has a=1, b=2, c=3, pretrained=laptop-metaworld"]


def test_what_was_typed_is_for_people_and_tells_no_runs_apart():
    """A command may be anything, or missing: what a run was is in the other columns."""
    table = rows("mbpo", 0, [0.0, 0.5]) + rows("mbpo", 1, [1.0, 0.5])
    typed = [row | {"command": f"ivideogpt train --mbpo.model.horizon {i} 'x"} for i, row in enumerate(table)]
    assert list(curves.labels(curves.group_rows(typed)).values()) == ["mbpo"]
    assert curves.as_text(curves.summarize(typed)) == curves.as_text(curves.summarize(table))


HEAD = "kind,task,algorithm,preset,seed,pretrained,settings,agent_steps,env_steps,wall_seconds,success,return"


def test_a_table_becomes_a_picture_and_a_list(tmp_path, capsys, monkeypatch):
    table = tmp_path / "runs.csv"
    table.write_text(
        f"{HEAD}\nagent,door-close,mbpo,laptop,0,,,0,0,1.5,0.0,3\nagent,door-close,mbpo,laptop,0,,,100,200,61,0.9,7\n"
    )
    monkeypatch.setattr("sys.argv", ["ivideogpt", "curves", str(table), "--out", str(tmp_path / "new" / "curves.png")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "door-close  mbpo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no column kind"),
        ("a,b\n1,2\n", "it has no column kind"),
        (HEAD.replace(",settings", "") + "\nagent,a,b,c,0,,1,2,1,0,0\n", "it has no column settings"),
        (f"{HEAD}\n", "it has no rows"),
        (f"{HEAD}\nagent,a,b,c,0,,,1,x,1,0,0\n", "no number"),
        (f"{HEAD}\nagent,a,b,c,0,,,1,2,1,0,0\nagent,a,b,c,0,,,1,2,1,0\n", "line 3: a row with more or fewer cells"),
        (f"{HEAD}\nagent,a,b,c,0,,,1,2,1,0,0,9\n", "line 2: a row with more or fewer cells"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, text, said):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"other\.csv.*{said}") as error:
        curves.read_table(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="cannot be read"):
        curves.read_table(tmp_path / "missing.csv")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        curves.read_table(path)


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path):
    """As in `ivideogpt curves TABLE.csv | head`, whether the pipe closes under a print or under the last flush."""
    table = tmp_path / "runs.csv"
    runs = "".join(f"agent,task-{i},mbpo,laptop,0,,,0,0,1.5,0.0,3\n" for i in range(3))
    table.write_text(f"{HEAD}\n{runs}")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "experiments.cli", "curves", table, "--out", tmp_path / "curves.png"]
    processes = [
        subprocess.Popen(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, env=os.environ | environment, cwd=ROOT
        )
        for environment in ({}, {"PYTHONUNBUFFERED": "1"})
    ]
    os.close(writer)
    assert [process.communicate()[1] for process in processes] == ["", ""]


@pytest.mark.parametrize("name", ["side_by_side", "few_steps", "dreamerv3_cartpole", "dreamerv3_drawer_close", "demo"])
def test_the_tables_that_are_kept_can_be_read(name):
    rows = curves.read_table(ROOT / "experiments" / "results" / f"{name}.csv")
    assert {row["kind"] for row in rows} == {"agent"} and curves.summarize(rows)
