import dataclasses
import io
import json

import jax.numpy as jnp
import pytest

from agent.events import CheckpointDue, Clock, Finished, MemoryUsage, OutlierWarning, SafePoint
from agent.guards import Diverged, Outlier, Range
from agent.loop import Snapshot
from agent.mbpo.loop import MBPOCounts
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.training.recorder import Recorder


@dataclasses.dataclass(frozen=True)
class Anything:
    seed: int = 0


@pytest.fixture
def recorder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with (
        folder.claim(Anything()),
        ProgressDisplay(io.StringIO()) as display,
        Checkpoints(folder.checkpoints) as checkpoints,
        Recorder(folder, checkpoints, display) as recorder,
    ):
        yield recorder


def state(value: float, **counts: int) -> tuple[Clock, Snapshot]:
    return Clock(), Snapshot({"w": jnp.float32(value)}, dataclasses.asdict(MBPOCounts(**counts)))


def lines(recorder: Recorder) -> list[dict]:
    return [json.loads(line) for line in recorder.folder.metrics.read_text().splitlines()]


def test_a_poisoned_state_is_never_saved_and_the_checkpoint_before_it_stays(recorder):
    recorder.record(CheckpointDue(*state(1, agent_steps=1)))
    with pytest.raises(Diverged, match=r"^w was not finite"):
        recorder.record(CheckpointDue(*state(float("nan"), agent_steps=2)))
    recorder.checkpoints.wait()
    assert recorder.checkpoints.restore({"w": jnp.float32(0)}).state["w"] == 1


def test_a_safe_point_is_saved_only_when_somebody_asks_and_once(recorder):
    point = SafePoint(*state(1, agent_steps=1))
    recorder.record(point)
    assert recorder.checkpoints.steps() == ()
    for _ in range(2):
        recorder.save(point)
    recorder.checkpoints.wait()
    recorder.save(point)
    assert len(recorder.checkpoints.steps()) == 1


def test_states_that_differ_in_any_count_have_checkpoints_of_their_own(recorder):
    recorder.record(CheckpointDue(*state(0)))
    recorder.record(CheckpointDue(*state(0, evaluated_agent_steps=0)))
    recorder.checkpoints.wait()
    assert len(recorder.checkpoints.steps()) == 2


def test_a_finished_run_ends_with_its_fingerprint_which_the_last_checkpoint_covers(recorder):
    recorder.record(MemoryUsage(Clock(), 10, 20))
    recorder.record(Finished(Clock(), {"w": 1}))
    recorder.record(CheckpointDue(*state(1)))
    recorder.checkpoints.wait()
    sizes, last = lines(recorder)
    assert sizes["bytes/real_replay"] == 10 and sizes["bytes/imagined_replay"] == 20 and sizes["bytes/run_folder"] > 0
    assert len(last["state_fingerprint"]) == 64
    assert recorder.checkpoints.restore({"w": jnp.float32(0)}).extra["metrics_lines"] == 2


def test_what_is_suspicious_is_written_every_time_and_said_once(recorder):
    for value in (50.0, 60.0):
        recorder.record(OutlierWarning(Clock(7), Outlier("agent/value_largest", value, Range(0, 10))))
    assert [line["outlier/agent/value_largest"] for line in lines(recorder)] == [50, 60]
    said = recorder.display._stream.getvalue()
    assert said == "agent step 7: agent/value_largest is 50, far outside what real rewards allow (0 to 10)\n"
