"""Which trial comes next: what a search asks for, with every seed, and what it is told of the results."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from experiments.sweeps import space, targets
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import DONE, FAILED, FINAL, STOPPED, SweepFolder, Trial
from experiments.sweeps.packages import need

if TYPE_CHECKING:
    import optuna


class Search(Protocol):
    """Points by their numbers."""

    def known(self) -> Mapping[int, space.Point]:
        """All that were asked for, in this session and before."""
        ...

    def ask(self) -> int | None:
        """A new point, which is known from now on; None where there are enough."""
        ...

    def tell(self, number: int, value: float | None) -> None:
        """What came of a point; None where nothing did."""
        ...

    def total(self) -> int:
        """How many points there will be."""
        ...


class Listed:
    """A grid, an ablation or a random search: its points are there before it begins."""

    def __init__(self, points: Sequence[space.Point]):
        self._points = dict(enumerate(points))

    def known(self) -> Mapping[int, space.Point]:
        return self._points

    def ask(self) -> int | None:
        return None

    def tell(self, number: int, value: float | None) -> None:
        pass

    def total(self) -> int:
        return len(self._points)


class OptunaStudy:
    """A study of Optuna's, in a journal beside the trials: no server, and a sweep that was killed goes on."""

    def __init__(self, sweep: Sweep, folder: SweepFolder):
        self._optuna = need("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        backend = self._optuna.storages.journal.JournalFileBackend(str(folder.journal))
        storage = self._optuna.storages.JournalStorage(backend)
        self._space, self._samples = sweep.space, sweep.search.samples or 0
        self._study: optuna.Study = self._optuna.create_study(
            storage=storage,
            study_name="sweep",
            load_if_exists=True,
            direction="maximize" if sweep.objective.mode == "max" else "minimize",
        )
        trials = self._study.trials
        self._study.sampler = _sampler(self._optuna, sweep, len(trials))
        whole = [trial for trial in trials if "point" in trial.user_attrs]
        self._points: dict[int, space.Point] = dict(enumerate(trial.user_attrs["point"] for trial in whole))
        self._trials = [trial.number for trial in whole]
        self._forget_half_asked(trials)

    def known(self) -> Mapping[int, space.Point]:
        return self._points

    def ask(self) -> int | None:
        if len(self._points) >= self._samples:
            return None
        trial = self._study.ask()

        def pick(domain: space.Values | space.Bounds) -> Sequence[Any]:
            if isinstance(domain, space.Values):
                single = len(domain.values) == 1
                return domain.values if single else [trial.suggest_categorical(domain.key, domain.values)]
            if domain.kind == "integer":
                return [trial.suggest_int(domain.key, int(domain.low), int(domain.high))]
            return [trial.suggest_float(domain.key, domain.low, domain.high, log=domain.kind == "log-uniform")]

        (point,) = space.expand(self._space, pick)
        trial.set_user_attr("point", point)
        number = len(self._points)
        self._points[number] = point
        self._trials.append(trial.number)
        return number

    def tell(self, number: int, value: float | None) -> None:
        failed = value is None or not math.isfinite(value)
        state = self._optuna.trial.TrialState.FAIL if failed else None
        self._study.tell(self._trials[number], None if failed else value, state=state, skip_if_finished=True)

    def total(self) -> int:
        return self._samples

    def _forget_half_asked(self, trials: Sequence[Any]) -> None:
        """A session that was killed while it asked has left a trial without a point."""
        for trial in trials:
            if "point" not in trial.user_attrs and not trial.state.is_finished():
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)


def _sampler(optuna: Any, sweep: Sweep, asked: int) -> Any:
    """By name, for Optuna's own default has changed before. A session that goes on does not draw the same again."""
    seed = sweep.search.seed + 1009 * asked
    if sweep.search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # some points have no result yet
    if sweep.search.sampler == "qmc":
        return optuna.samplers.QMCSampler(seed=sweep.search.seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


class TrialQueue:
    """Hands out the trials of a sweep: first those that were begun before, then new ones."""

    def __init__(self, sweep: Sweep, folder: SweepFolder, again: bool = False):
        """again: hand out finished trials, too, for a scheduler that is to hear of them."""
        self._sweep, self._folder = sweep, folder
        listed = sweep.search.kind != "optuna"
        self._search: Search = Listed(targets.points_of(sweep)) if listed else OptunaStudy(sweep, folder)
        trials = [trial for number in self._search.known() for trial in self._trials(number)]
        before = {trial.name: folder.standing(trial.name) for trial in trials}
        # What was begun goes first: it holds checkpoints.
        begun = sorted(trials, key=lambda trial: before[trial.name].attempts == 0)
        over = (DONE, STOPPED)
        self._queue = collections.deque(trial for trial in begun if again or before[trial.name].state not in over)
        for number in self._search.known():
            self._tell_if_whole(number)

    @property
    def total(self) -> int:
        """Trials."""
        return self._search.total() * len(self._sweep.seeds)

    def next(self) -> Trial | None:
        """The next trial; None where all were handed out."""
        if not self._queue and (number := self._search.ask()) is not None:
            self._queue.extend(self._trials(number))
        return self._queue.popleft() if self._queue else None

    def finished(self, trial: Trial) -> None:
        """Take notice that a trial is over."""
        self._tell_if_whole(trial.number)

    def waiting(self) -> list[Trial]:
        """Trials that are known and were not handed out yet."""
        return list(self._queue)

    def _trials(self, number: int) -> list[Trial]:
        return [Trial(number, seed, self._search.known()[number]) for seed in self._sweep.seeds]

    def _tell_if_whole(self, number: int) -> None:
        """A point's value is the mean over its seeds."""
        found = [self._folder.standing(trial.name) for trial in self._trials(number)]
        if all(standing.state in FINAL for standing in found):
            values = [each.value for each in found if each.state != FAILED and each.value is not None]
            self._search.tell(number, sum(values) / len(values) if values else None)
