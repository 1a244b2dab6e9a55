"""Tables of evaluations: when a run solves its task, and what is drawn of several seeds."""

import numpy as np
import pytest

from experiments import cli, curves
from experiments.errors import UsageError


def rows(algorithm: str, seed: int, success: list[float], task: str = "handle-press") -> list[dict]:
    return [
        {"task": task, "algorithm": algorithm, "preset": "laptop", "seed": seed, "success": share}
        | {"return": 10.0 * share, "agent_steps": 100.0 * i, "env_steps": 200.0 * i, "wall_seconds": 60.0 * i}
        for i, share in enumerate(success)
    ]


def test_a_run_is_first_solved_at_its_first_evaluation_of_that_share():
    table = rows("mbpo", 0, [0, 0.79, 0.8, 0.2, 1.0]) + rows("drqv2", 0, [0.0, 0.5])
    drqv2, mbpo = curves.first_solved(reversed(table))
    assert (mbpo["agent_steps"], mbpo["env_steps"], mbpo["wall_seconds"]) == (200, 400, 120)
    assert (drqv2["agent_steps"], drqv2["last_success"]) == ("", 0.5)
    assert "never" in curves.as_text([drqv2, mbpo])


def test_of_four_seeds_the_middle_two_count():
    success = np.array([[0.0, 1.0], [0.4, 0.2], [0.6, 0.4], [1.0, 0.0]])
    np.testing.assert_allclose(curves.interquartile_mean(success), [0.5, 0.3])
    low, high = curves.interval(success)
    assert (low <= [0.5, 0.3]).all() and ([0.5, 0.3] <= high).all() and (low < high).all()
    same = np.full((3, 2), 0.7)
    np.testing.assert_allclose(curves.interval(same), 0.7)


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
    command = "ivideogpt train --preset laptop --task handle-press --seed 0 --mbpo.agent-steps 2000"
    plain = [row | {"command": command} for row in rows("mbpo", 0, [0.0, 0.5, 1.0])]
    short = [row | {"command": f"{command} --mbpo.model.horizon 3"} for row in rows("mbpo", 0, [0.0, 0.1, 0.2])]
    longer = [row | {"seed": 1, "command": command.replace("2000", "3000")} for row in plain]
    assert len(curves.runs_of(plain + short)) == 2
    assert len(curves.labels(curves.runs_of(plain + longer))) == 1
    shown = [text.get_text() for text in curves.draw(plain + short).axes[0].get_legend().get_texts()]
    assert shown == ["mbpo (1 seed)", "mbpo, mbpo.model.horizon 3 (1 seed)"]
    assert "mbpo.model.horizon 3" in curves.as_text(curves.first_solved(plain + short))


def test_a_table_becomes_a_picture_and_a_list(tmp_path, capsys, monkeypatch):
    table = tmp_path / "runs.csv"
    table.write_text(
        "task,algorithm,preset,seed,agent_steps,env_steps,wall_seconds,success,return\n"
        "door-close,mbpo,laptop,0,0,0,1.5,0.0,3\ndoor-close,mbpo,laptop,0,100,200,61,0.9,7\n"
    )
    monkeypatch.setattr("sys.argv", ["ivideogpt", "curves", str(table), "--out", str(tmp_path / "new" / "curves.png")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "door-close  mbpo" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "task,algorithm,preset,seed,agent_steps,env_steps,wall_seconds,success,return\na,b,c,0,1,x,1,0,0\n"]
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, text):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"other\.csv"):
        curves.read_table(path)
    with pytest.raises(UsageError, match="cannot be read"):
        curves.read_table(tmp_path / "missing.csv")
