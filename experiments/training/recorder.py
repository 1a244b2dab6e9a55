"""What becomes of a loop's events: bars, lines in metrics.jsonl, videos, checkpoints, and words for whoever watches."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agent.events import (
    CheckpointDue,
    EpisodeFinished,
    Evaluated,
    Event,
    Finished,
    Measured,
    MemoryUsage,
    OutlierWarning,
    Progress,
    SafePoint,
)
from agent.guards import refuse_not_finite
from agent.mbpo.model_evaluation import ModelEvaluated
from experiments.reports import videos
from experiments.reports.comparison import scalars, sentence
from experiments.reports.page import OUTLIER, write_report
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.fingerprint import fingerprint
from experiments.runs.metrics_log import Metrics
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.runs.tracking import Tracker


class Recorder:
    """Receives every event of a run, in order. A context manager: leaving it closes metrics.jsonl."""

    def __init__(
        self,
        folder: RunFolder,
        checkpoints: Checkpoints,
        display: ProgressDisplay,
        score: float | None = None,
        trackers: Sequence[Tracker] = (),
    ):
        """score: of the newest evaluation before this session."""
        self.folder, self.checkpoints, self.display = folder, checkpoints, display
        self.metrics = Metrics(folder.metrics, listeners=[tracker.write for tracker in trackers])
        self.score = score
        self.saved: int | None = None  # the newest checkpoint, which may still be being written
        self.suspected: set[str] = set()  # said once a session, written every time

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_) -> None:
        self.metrics.close()

    def record(self, event: Event) -> None:
        """Do whatever this kind of event asks for."""
        self._record(event)

    @functools.singledispatchmethod
    def _record(self, event: Event) -> None:
        raise TypeError(f"no one knows what to do with {event!r}")

    @_record.register
    def _(self, event: Progress) -> None:
        self.display.update(event)

    @_record.register
    def _(self, event: Measured) -> None:
        self.metrics.write(event.clock, event.metrics)

    @_record.register
    def _(self, event: EpisodeFinished) -> None:
        self.metrics.write(
            event.clock, {"episode/return": event.episode_return, "episode/success": float(event.success)}
        )

    @_record.register
    def _(self, event: Evaluated) -> None:
        self.score = float(event.successes.mean())
        values = {
            "eval/success": self.score,
            "eval/return": float(event.returns.mean()),
            "eval/episodes": len(event.returns),
        }
        self.metrics.write(event.clock, values)
        path = self.folder.videos / f"evaluation-{event.clock.agent_steps}.mp4"
        videos.write_mp4(path, videos.evaluation_video(event.frames, event.successes), fps=20)
        self.display.message(
            f"agent step {event.clock.agent_steps} ({event.clock.env_steps} env steps): success in "
            f"{event.successes.sum()} of {len(event.successes)} evaluation episodes, return {event.returns.mean():.0f}"
        )
        write_report([self.folder])

    @_record.register
    def _(self, event: ModelEvaluated) -> None:
        comparison, step = event.comparison, event.clock.agent_steps
        self.metrics.write(event.clock, scalars(comparison))
        videos.write_mp4(self.folder.videos / f"imagination-{step}.mp4", videos.imagination_video(comparison), fps=4)
        videos.write_png(self.folder.videos / f"imagination-{step}.png", videos.filmstrip(comparison))
        self.display.message(f"agent step {step}, {sentence(comparison)}")

    @_record.register
    def _(self, event: OutlierWarning) -> None:
        outlier = event.outlier
        self.metrics.write(event.clock, {f"{OUTLIER}{outlier.name}": outlier.value})
        if outlier.name not in self.suspected:
            self.suspected.add(outlier.name)
            self.display.message(
                f"agent step {event.clock.agent_steps}: {outlier.name} is {outlier.value:.4g}, far outside what real "
                f"rewards allow ({outlier.allowed.low:.4g} to {outlier.allowed.high:.4g})"
            )

    @_record.register
    def _(self, event: SafePoint) -> None:
        pass

    @_record.register
    def _(self, event: CheckpointDue) -> None:
        self.save(event)

    @_record.register
    def _(self, event: MemoryUsage) -> None:
        sizes = {name: getattr(event, name) for name in ("real_replay", "imagined_replay")}
        sizes["run_folder"] = sum(self.folder.sizes().values())
        self.metrics.write(event.clock, {f"bytes/{name}": size for name, size in sizes.items()})

    @_record.register
    def _(self, event: Finished) -> None:
        self.metrics.write(event.clock, {"state_fingerprint": fingerprint(event.restorable)})

    def save(self, event: SafePoint) -> None:
        """Start writing a checkpoint, unless this very one is there. Raises Diverged rather than save a poisoned
        state."""
        step = _step(event)
        if step == self.saved or step in self.checkpoints.steps():
            return
        self.saved = step
        refuse_not_finite(event.state.arrays, event.clock.agent_steps)
        extra = {"counts": event.state.counts, "metrics_lines": self.metrics.lines, "score": self.score}
        self.checkpoints.save(step, event.state.arrays, extra, self.score)


def _step(event: SafePoint) -> int:
    """A number that grows with everything a run does, so that checkpoints of the first training differ, too."""
    return sum(event.state.counts.values()) + 1
