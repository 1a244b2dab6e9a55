"""Many futures of every segment, each compared with what happened, and what single errors do not see."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.events import Progress
from experiments.evaluation import i3d, metrics
from experiments.evaluation.frechet import frechet_distance
from experiments.evaluation.segments import EvaluationSegments
from tokenizer import PerceptualWeights, lpips
from tokenizer.limits import require_at_least
from world_model import WorldModel

BETTER = {"mse": min, "psnr": max, "ssim": max, "lpips": min}
"""Which of several samples of a video counts, by each metric."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The paper's is 256 videos and 100 samples, best of 100 for each metric (appendix, evaluation)."""

    videos: int = 32
    samples: int = 4
    horizon: int = 10
    temperature: float = 1.0
    top_k: int | None = 100
    seed: int = 0
    batch: int = 32  # rollouts at a time, which bounds the memory
    all_frames: bool = False  # also average over all T frames, the context's reconstructions among them, as published

    def __post_init__(self):
        require_at_least(1, self, "videos", "samples", "horizon", "top_k", "batch")
        require_at_least(0, self, "temperature", "seed")


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
    """Of V videos with K samples each; `repeat` is the last context frame, held still. LPIPS only with weights."""

    sampled: dict[str, np.ndarray]  # [V, K, F] by metric
    copy_last: dict[str, np.ndarray]  # [V, F]
    shuffled_actions: dict[str, np.ndarray] | None  # [V, F]: greedy, another segment's actions; None without actions
    greedy: dict[str, np.ndarray]  # [V, F]: the most likely future
    repeated_frames: float  # share of sampled frames equal to the one before
    repeated_frames_real: float
    futures_vfhwc: np.ndarray  # uint8: each video's sample of the lowest error
    fvd: dict[str, float] | None  # of all samples (`sampled`) and of the last frame held still (`repeat`)
    reconstructed: dict[str, np.ndarray] | None = None  # [V, C]: the context, tokenized and back; with all_frames

    def best(self, metric: str) -> float:
        """The mean over videos of the best sample's mean over future frames."""
        return self._best(metric, self.sampled[metric].mean(-1))

    def best_of_all_frames(self, metric: str) -> float:
        """As `best`, with each sample's mean over all T frames: what the published code calls the metric.

        The context's frames, which are given and only reconstructed, are the easier part of it.
        """
        return self._best(metric, self._over_all_frames(metric))

    def mean_of_all_frames(self, metric: str) -> float:
        """Over all T frames of all samples of all videos."""
        return float(self._over_all_frames(metric).mean())

    def _best(self, metric: str, of_samples_vk: np.ndarray) -> float:
        pick = {min: np.min, max: np.max}[BETTER[metric]]
        return float(pick(of_samples_vk, axis=1).mean())

    def _over_all_frames(self, metric: str) -> np.ndarray:
        """[V, K]"""
        assert self.reconstructed is not None  # measured where the protocol has all_frames
        context_vkc = np.repeat(self.reconstructed[metric][:, None], self.sampled[metric].shape[1], axis=1)
        return np.concatenate([context_vkc, self.sampled[metric]], axis=-1).mean(-1)

    def by_horizon(self, metric: str) -> np.ndarray:
        """[F], over all samples of all videos."""
        return self.sampled[metric].mean((0, 1))


def measure(
    model: WorldModel,
    segments: EvaluationSegments,
    protocol: Protocol,
    weights: PerceptualWeights | None,
    video_weights: Mapping[str, np.ndarray] | None = None,
    each: Map = map,
) -> Iterator[Progress | MeasuredModel]:
    """Yields progress, in which nothing is at its end before it is, then what was measured, which depends on model,
    segments and protocol alone.

    video_weights: of I3D; without them there is no FVD. As published, FVD is that of whole videos, whose context frames
    are those that the tokenizer makes of the true ones.
    each: gives what a function makes of each slice of the futures, in order: the built-in `map`, or one that works
    elsewhere.
    """
    before = model.config.layout.frames_before
    seen = None if video_weights is None else _Seen(video_weights, model, segments)
    if seen is not None:
        yield from seen.look_at_real_videos()
    given, real = segments.frames_vthwc[:, :before], segments.frames_vthwc[:, before:][:, : protocol.horizon]
    videos, samples = len(real), protocol.samples
    total = videos * samples
    made: dict[str, list[np.ndarray]] = {}
    futures = np.zeros_like(real)
    lowest = np.full(videos, np.inf)
    repeated, done = 0, 0
    slices = each(_Sampling(model, segments, protocol, weights, seen), range(0, total, protocol.batch))
    for part in slices:
        for name, values in part.errors.items():
            made.setdefault(name, []).append(values)
        if seen is not None and part.features is not None:
            seen.made.append(part.features)
        repeated += metrics.repeats(given[part.rows, -1], part.frames_rfhwc).sum()
        for row, future, error in zip(part.rows, part.frames_rfhwc, part.errors["mse"].mean(-1), strict=True):
            if error < lowest[row]:
                lowest[row], futures[row] = error, future
        done += len(part.rows)
        yield Progress("futures", done, total)
    steps: dict[str, Callable[[], Any]] = {
        "copy_last": lambda: compare_metrics(real, np.broadcast_to(given[:, -1:], real.shape), weights),
        "shuffled_actions": lambda: _shuffled_actions(model, segments, real, protocol, weights),
        "greedy": lambda: compare_metrics(
            real, predict_futures(model, segments, segments.actions_vta, protocol, 0.0), weights
        ),
    }
    if protocol.all_frames:
        steps["reconstructed"] = lambda: _reconstructed(model, segments, weights)
    if seen is not None:
        steps["fvd"] = lambda: seen.distances(given, real.shape[1])
    compared: dict[str, Any] = {}
    for done, (name, compare) in enumerate(steps.items()):
        yield Progress(COMPARING, done, len(steps))
        compared[name] = compare()
    yield Progress(COMPARING, len(steps), len(steps))
    yield MeasuredModel(
        sampled={name: np.concatenate(parts).reshape(videos, samples, -1) for name, parts in made.items()},
        repeated_frames=float(repeated / (total * real.shape[1])),
        repeated_frames_real=float(metrics.repeats(given[:, -1], real).mean()),
        futures_vfhwc=futures,
        copy_last=compared["copy_last"],
        shuffled_actions=compared["shuffled_actions"],
        greedy=compared["greedy"],
        fvd=compared.get("fvd"),
        reconstructed=compared.get("reconstructed"),
    )


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some of all futures, R of them."""

    rows: np.ndarray  # int [R]: of which segment each is
    frames_rfhwc: np.ndarray  # uint8
    errors: dict[str, np.ndarray]  # [R, F] by metric
    features: np.ndarray | None  # [R, D]: what I3D sees of them, if it looks


Map = Callable[[Callable[[int], Slice], Iterable[int]], Iterable[Slice]]


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """Makes slices, each by the number of its first future: a segment's samples stand together. A slice depends on that
    number and on what is held here alone, so that it may be made anywhere."""

    model: WorldModel
    segments: EvaluationSegments
    protocol: Protocol
    weights: PerceptualWeights | None
    seen: _Seen | None

    def __call__(self, start: int) -> Slice:
        segments, protocol = self.segments, self.protocol
        total, before = len(segments.names) * protocol.samples, self.model.config.layout.frames_before
        rows = np.arange(start, min(start + protocol.batch, total)) // protocol.samples
        key = jax.random.fold_in(jax.random.key(protocol.seed), start)
        frames = _future(self.model, segments, rows, segments.actions_vta[rows], protocol, key, protocol.temperature)
        errors = compare_metrics(segments.frames_vthwc[rows, before:][:, : protocol.horizon], frames, self.weights)
        return Slice(rows, frames, errors, None if self.seen is None else self.seen.features_of(rows, frames))


REAL_VIDEOS, COMPARING = "real videos seen by FVD", "comparisons"
"""Phases of the progress before and after that of the futures."""


class _Seen:
    """What I3D sees of the real videos and of the predicted ones, as they come."""

    def __init__(self, video_weights: Mapping[str, np.ndarray], model: WorldModel, segments: EvaluationSegments):
        self._weights = jax.device_put(dict(video_weights))
        self._videos = segments.frames_vthwc
        self._contexts = _remade_contexts(model, segments)
        self._real: list[np.ndarray] = []
        self.made: list[np.ndarray] = []
        """Of the predicted ones, as they come."""

    def look_at_real_videos(self, piece: int = 4) -> Iterator[Progress]:
        """Before anything else."""
        total = len(self._videos)
        for start in range(0, total, piece):
            yield Progress(REAL_VIDEOS, start, total)
            self._real.append(self._features(self._videos[start : start + piece], piece))
        yield Progress(REAL_VIDEOS, total, total)

    def features_of(self, rows: np.ndarray, futures_rfhwc: np.ndarray) -> np.ndarray:
        return self._features(np.concatenate([self._contexts[rows], futures_rfhwc], axis=1))

    def distances(self, given: np.ndarray, horizon: int) -> dict[str, float]:
        real = np.concatenate(self._real)
        held = np.concatenate([given, np.repeat(given[:, -1:], horizon, axis=1)], axis=1)
        return {
            "sampled": frechet_distance(real, np.concatenate(self.made)),
            "copy_last": frechet_distance(real, self._features(held)),
        }

    def _features(self, videos_vthwc: np.ndarray, piece: int = 4) -> np.ndarray:
        parts = []
        for start in range(0, len(videos_vthwc), piece):
            part = videos_vthwc[start : start + piece]
            full = np.resize(part, (piece, *part.shape[1:]))  # one shape, one program
            found = i3d.features(self._weights, jnp.asarray(full, jnp.float32) / 255)
            parts.append(np.asarray(found)[: len(part)])
        return np.concatenate(parts)


def _remade_contexts(model: WorldModel, segments: EvaluationSegments) -> np.ndarray:
    """uint8 [V, C, H, W, 3]: the context frames in their order in a sequence, tokenized and back."""
    layout, parts = model.config.layout, []
    for start in range(0, len(segments.names), 8):
        tokens_bl, _ = model.tokenize(jnp.asarray(segments.frames_vthwc[start : start + 8]))
        frames = layout.arrange(model.detokenize(tokens_bl))[:, : layout.context_frames]
        parts.append(np.rint(np.clip(np.asarray(frames), 0, 1) * 255).astype(np.uint8))
    return np.concatenate(parts)


def _reconstructed(
    model: WorldModel, segments: EvaluationSegments, weights: PerceptualWeights | None
) -> dict[str, np.ndarray]:
    """Every metric of the reconstructed context frames, [V, C]."""
    layout = model.config.layout
    given = np.asarray(layout.arrange(segments.frames_vthwc))[:, : layout.context_frames]
    return compare_metrics(given, _remade_contexts(model, segments), weights)


def compare_metrics(real: np.ndarray, made: np.ndarray, weights: PerceptualWeights | None) -> dict[str, np.ndarray]:
    """Every metric of uint8 frames [..., H, W, 3] against others: float [...] each."""
    a, b = (np.asarray(x, np.float32) / 255 for x in (real, made))
    found = {name: np.asarray(getattr(metrics, name)(a, b)) for name in ("mse", "psnr", "ssim")}
    if weights is not None:
        flat = [x.reshape(-1, *x.shape[-3:]) for x in (a, b)]
        parts = [_lpips(weights, *(x[i : i + 64] for x in flat)) for i in range(0, len(flat[0]), 64)]
        found["lpips"] = np.concatenate(parts).reshape(real.shape[:-3])
    return found


_lpips = jax.jit(lpips)


def _future(model, segments, rows, actions_vta, protocol, key, temperature) -> np.ndarray:
    """uint8 [R, F, H, W, 3] of the segments `rows`, under actions [R, T, A]; the goal, if any, is the frame behind
    them."""
    config, layout = model.config, model.config.layout
    frames = segments.frames_vthwc[rows]
    actions = layout.future_actions(actions_vta, protocol.horizon) if config.transformer.action_size else None
    imagined = model.rollout(
        jnp.asarray(frames[:, : layout.frames_before]),
        None if actions is None else jnp.asarray(actions),
        key,
        temperature,
        protocol.top_k,
        protocol.horizon,
        goal=jnp.asarray(frames[:, -1]) if config.goal_conditioned else None,
    )
    return np.asarray(imagined.frames)


def predict_futures(
    model: WorldModel, segments: EvaluationSegments, actions_vta: np.ndarray, protocol: Protocol, temperature: float
) -> np.ndarray:
    """One future of each segment, uint8 [V, F, H, W, 3]; temperature 0 is the most likely."""
    rows, parts = np.arange(len(segments.names)), []
    for start in range(0, len(rows), protocol.batch):
        part, key = rows[start : start + protocol.batch], jax.random.fold_in(jax.random.key(protocol.seed), start)
        parts.append(_future(model, segments, part, actions_vta[part], protocol, key, temperature))
    return np.concatenate(parts)


def predict_samples(
    model: WorldModel, segments: EvaluationSegments, protocol: Protocol
) -> Iterator[tuple[int, np.ndarray]]:
    """`protocol.samples` futures of all segments in turn, each with its number, uint8 [V, F, H, W, 3].

    Sample k is what `predict_futures` gives for a seed k higher: the first is the same however many there are.
    """
    for number in range(protocol.samples):
        seeded = dataclasses.replace(protocol, seed=protocol.seed + number)
        yield number, predict_futures(model, segments, segments.actions_vta, seeded, protocol.temperature)


def _shuffled_actions(model, segments, real, protocol, weights) -> dict[str, np.ndarray] | None:
    """The most likely futures under the actions of the segment half the list away."""
    videos = len(segments.names)
    if not model.config.transformer.action_size or videos < 2:
        return None
    other = np.roll(segments.actions_vta, -(videos // 2), axis=0)
    return compare_metrics(real, predict_futures(model, segments, other, protocol, 0.0), weights)
