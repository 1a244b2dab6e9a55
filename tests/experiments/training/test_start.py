"""What a run starts from is collected under names that tell the phases apart."""

import io

from safe_points import Dot

from experiments.runs.preemption import StopRequest
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.training import presets, start


class Scripted(Dot):
    task = "dot"

    def scripted_policy(self):
        return lambda: self.action_space.sample()

    def exploring_policy(self, rng):
        return None


def test_each_phase_of_collecting_has_a_name_of_its_own(tmp_path, monkeypatch):
    """Fault 22: two bars were called 'held-out episodes'."""
    phases = []

    class Display(ProgressDisplay):
        def update(self, progress):
            phases.append((progress.phase, progress.done))

    monkeypatch.setattr("agent.replay.Episode.success", True)
    experiment = presets.get("debug")
    display = Display(io.StringIO())
    collector = start.Collector(experiment, Scripted(8), RunFolder(tmp_path), display, StopRequest())
    assert len(collector.demonstrations(None)) == 1
    assert len(collector.held_out(None)) == 4
    assert len(phases) == len(set(phases)) == 5
