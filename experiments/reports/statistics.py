"""Statistics of few runs (Agarwal et al., 2021): scores [R, T] of R seeds on T tasks, and their bootstrap intervals.

Intervals hold 95% of the resamples (percentile bootstrap), which are drawn anew within each task: they say what other
seeds would have given on the same tasks. The same scores have the same interval every time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
BATCH = 100
"""Resamples that are held in memory at once."""
LEVEL = (2.5, 97.5)
"""Percentiles of the resamples that an interval lies between."""
LEAST = 3
"""Seeds from which there is an interval: with one there is nothing to resample, with two hardly anything."""
THRESHOLDS = np.linspace(0, 1, 101)
"""Scores at which a performance profile of shares is drawn."""


Curve = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Values [K], and where they have 95% intervals, the lows and highs."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number, and its 95% interval; None without one, where there are too few seeds."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval, if there is one, lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def in_words(self, digits: str, scale: float = 1.0) -> str:
        """A difference with its interval: `digits` as in a format, times `scale`."""
        told = [f"{scale * each:+{digits}}" for each in (self.value, self.low, self.high) if each is not None]
        return f"{told[0]} ({told[1]} to {told[2]})" if len(told) == 3 else told[0]


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over the middle half of the scores along an axis; of three or fewer, over all."""
    ordered = np.moveaxis(np.sort(np.asarray(scores, np.float64), axis), axis, -1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def pooled_interquartile_mean(scores_rt: np.ndarray) -> np.ndarray:
    """Interquartile mean over all seeds and tasks together of [..., R, T]."""
    return interquartile_mean(_pool(scores_rt))


def curve_of_pooled(scores_rtk: np.ndarray) -> np.ndarray:
    """`pooled_interquartile_mean` at each of the K moments of [..., R, T, K]: [..., K]."""
    return pooled_interquartile_mean(np.moveaxis(scores_rtk, -1, -3))


def pooled_mean(scores_rt: np.ndarray) -> np.ndarray:
    """Mean over seeds and tasks of [..., R, T]."""
    return np.asarray(scores_rt, np.float64).mean((-2, -1))


def optimality_gap(scores_rt: np.ndarray, best: float = 1.0) -> np.ndarray:
    """By how much scores [..., R, T] stay below `best` on average; what is above it counts as `best`."""
    return best - np.minimum(scores_rt, best).mean((-2, -1))


def performance_profile(scores_rt: np.ndarray, thresholds_k: np.ndarray = THRESHOLDS) -> np.ndarray:
    """Share of the runs [..., R, T] with a score above each threshold: [..., K]."""
    return (_pool(scores_rt)[..., None] > thresholds_k).mean(-2)


def probability_of_improvement(x_rt: np.ndarray, y_st: np.ndarray) -> np.ndarray:
    """Chance that a run of x [..., R, T] scores higher than one of y [..., S, T] on a task, half for a tie; mean over
    tasks (the Mann-Whitney statistic over R x S)."""
    x, y = np.asarray(x_rt)[..., :, None, :], np.asarray(y_st)[..., None, :, :]
    return ((x > y) + 0.5 * (x == y)).mean((-3, -2, -1))


def estimate(function: Callable[..., np.ndarray], *scores_rt: np.ndarray, resamples: int = RESAMPLES) -> Interval:
    """`function` of the score matrices [R, T], each resampled by itself: a number with its interval."""
    values, low, high = estimate_curve(function, *scores_rt, resamples=resamples)
    return Interval(float(values)) if low is None or high is None else Interval(float(values), float(low), float(high))


def estimate_curve(function: Callable[..., np.ndarray], *scores_rt: np.ndarray, resamples: int = RESAMPLES) -> Curve:
    """As `estimate`, where `function` gives several numbers [K] (or one).

    Scores may have more axes behind [R, T], such as time: a run is drawn with all of its own.
    """
    values = np.asarray(function(*scores_rt))
    if min(len(scores) for scores in scores_rt) < LEAST:
        return values, None, None
    rng = np.random.default_rng(0)
    sizes = [BATCH] * (resamples // BATCH) + [resamples % BATCH] * (resamples % BATCH > 0)
    drawn = np.concatenate([function(*(_resample(rng, scores, size) for scores in scores_rt)) for size in sizes])
    low, high = np.percentile(drawn, LEVEL, axis=0)
    return values, low, high


def mean_difference(differences: Sequence[np.ndarray], resamples: int = RESAMPLES) -> Interval:
    """Mean over tasks of the mean over the pairs of each task, with its interval; pairs stay pairs when resampled.

    differences: for each task one number a pair, which two runs of one seed have; tasks may differ in how many.
    """
    value = float(np.mean([np.mean(each) for each in differences]))
    if min(map(len, differences)) < LEAST:
        return Interval(value)
    return Interval(value, *bounds_of_mean(differences, resamples))


def bounds_of_mean(parts: Sequence[np.ndarray], resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% interval of the mean over parts of the mean of each, whose numbers are resampled within it."""
    rng = np.random.default_rng(0)
    means = [each[rng.integers(len(each), size=(resamples, len(each)))].mean(-1) for each in parts]
    low, high = np.percentile(np.mean(means, axis=0), LEVEL)
    return float(low), float(high)


def restricted(times: np.ndarray, horizon: float) -> np.ndarray:
    """Times until something happens, at most `horizon` each; infinite where it never did.

    Their mean is the restricted mean survival time (Irwin, 1949). Every run must have been watched until the horizon:
    then no weights (Kaplan and Meier, 1958) are needed for those that were not.
    """
    return np.minimum(times, horizon)


def _pool(scores_rt: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores_rt, np.float64)
    return scores.reshape(*scores.shape[:-2], -1)


def _resample(rng: np.random.Generator, scores_rt: np.ndarray, count: int) -> np.ndarray:
    """[count, R, T, ...]: in each task R of its scores, drawn with replacement."""
    runs, tasks = scores_rt.shape[:2]
    return np.asarray(scores_rt, np.float64)[rng.integers(runs, size=(count, runs, tasks)), np.arange(tasks)]
