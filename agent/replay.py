"""Episodes of real interaction: once in memory, and on disk in one file per episode.

Frames are stored once; stacks of frames are put together when a batch is drawn. The loop that owns a replay decides
which random generator draws: a batch is a function of the replay's contents and that generator alone.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tokenizer.errors import UserError


class EpisodeError(UserError, ValueError):
    """An episode file that cannot be used; the message names the file and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """T agent steps. `actions[t]` leads from `frames[t]` to `frames[t + 1]`, where `rewards[t]` is earned."""

    frames: np.ndarray  # uint8 [T + 1, H, W, 3]
    actions: np.ndarray  # float32 [T, A] in [-1, 1]
    rewards: np.ndarray  # float32 [T]
    successes: np.ndarray  # bool [T]

    @property
    def length(self) -> int:
        return len(self.actions)

    @property
    def total_reward(self) -> float:
        return float(self.rewards.sum())

    @property
    def success(self) -> bool:
        """Whether any step succeeded (paper section 4.2)."""
        return bool(self.successes.any())

    def check(self) -> Episode:
        """Return itself, or raise ValueError with what does not fit."""
        t = self.length
        expected = {
            "frames": (np.uint8, 4),
            "actions": (np.float32, 2),
            "rewards": (np.float32, 1),
            "successes": (np.bool_, 1),
        }
        for name, (dtype, rank) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != rank:
                raise ValueError(
                    f"'{name}' is {array.dtype} of rank {array.ndim}, expected {np.dtype(dtype)} of rank {rank}"
                )
        if (
            self.frames.shape[0] != t + 1
            or len(self.rewards) != t
            or len(self.successes) != t
            or self.frames.shape[-1] != 3
        ):
            raise ValueError(
                f"lengths disagree: {t} actions need frames [{t + 1}, H, W, 3], {t} rewards and {t} successes, "
                f"found {self.frames.shape}, {len(self.rewards)} and {len(self.successes)}"
            )
        if not np.isfinite(self.rewards).all() or not np.abs(self.actions).max(initial=0) <= 1:
            raise ValueError("rewards must be finite and actions within [-1, 1]")
        return self


def save_episode(path: str | os.PathLike[str], episode: Episode) -> None:
    """Write one compressed `.npz` atomically."""
    write_arrays(path, dataclasses.asdict(episode.check()), np.savez_compressed)


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], save: Callable[..., None]) -> None:
    """Write arrays with `np.savez` or `np.savez_compressed` atomically: a reader sees the whole file or none."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        save(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def remove_numbered(folder: pathlib.Path, numbers: range) -> None:
    """Remove the files of a folder whose names are among the numbers."""
    for path in folder.glob("[0-9]*.npz"):
        if int(path.stem) in numbers:
            path.unlink()


def load_episode(path: str | os.PathLike[str]) -> Episode:
    """Read an episode that `save_episode` wrote. Raises EpisodeError, in one sentence that names the file."""
    return read_arrays(path, episode_of)


def read_arrays(path: str | os.PathLike[str], build: Callable[[Mapping[str, np.ndarray]], Episode]) -> Episode:
    """An episode from the arrays of a .npz file. Raises EpisodeError, in one sentence that names the file."""
    arrays = StoredArrays(path)
    try:
        return build(arrays).check()
    except KeyError as error:
        raise EpisodeError(
            f"{path}: the key {error} is missing; an episode holds frames, actions, rewards, successes"
        ) from None
    except EpisodeError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise EpisodeError(f"{path}: {error}") from None


class StoredArrays(Mapping[str, np.ndarray]):
    """The arrays of a .npz file by name, each as it was written, none of them unpickled.

    Raises EpisodeError, in one sentence that names the file, for one that is missing, cut short, changed (by its
    checksums, which are read before anything is believed) or something else; for an entry that holds no numbers, when
    it is asked for.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path
        try:
            with zipfile.ZipFile(path) as file:
                self._contents = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
        except FileNotFoundError:
            raise EpisodeError(f"{path}: no such file") from None
        except Exception as error:  # zipfile has an error of its own for each kind of damage, as has what unpacks it
            raise EpisodeError(f"{path}: truncated or damaged ({error}); delete it or collect it again") from None

    def __getitem__(self, name: str) -> np.ndarray:
        content = io.BytesIO(self._contents[name])
        try:
            return np.lib.format.read_array(content, allow_pickle=False)
        except Exception as error:
            raise EpisodeError(f"{self._path}: '{name}' is no array of numbers ({error})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


def episode_of(arrays: Mapping[str, np.ndarray]) -> Episode:
    """An episode from its arrays by name, as `save_episode` wrote them. Raises KeyError where one is missing."""
    return Episode(*(arrays[field.name] for field in dataclasses.fields(Episode)))


@dataclasses.dataclass(frozen=True)
class Transitions:
    """A batch for the actor-critic. `rewards_b` are n-step sums; `discounts_b` multiplies the value after them."""

    observations_bshwc: np.ndarray  # uint8 [B, stack, H, W, 3], newest frame last
    actions_ba: np.ndarray  # float32 [B, A]
    rewards_b: np.ndarray  # float32 [B]
    discounts_b: np.ndarray  # float32 [B]
    next_observations_bshwc: np.ndarray  # uint8, as observations
    demonstrations_b: np.ndarray  # float32 [B], 1 where the action is a demonstrator's
    weights_b: np.ndarray | None = None  # float32 [B] in (0, 1], of the losses; None: all count alike

    def with_weights(self) -> Transitions:
        """The same, with weights of 1 where it has none."""
        if self.weights_b is not None:
            return self
        return dataclasses.replace(self, weights_b=np.ones(len(self.rewards_b), np.float32))


@dataclasses.dataclass(frozen=True)
class Segments:
    """A batch for the world model: T frames, the actions between them and the reward of arriving at each."""

    frames_bthwc: np.ndarray  # uint8 [B, T, H, W, 3]
    actions_bta: np.ndarray  # float32 [B, T, A]; the last column is unused
    rewards_bt: np.ndarray  # float32 [B, T]; column 0 is 0 where the segment starts an episode


@dataclasses.dataclass(frozen=True)
class Contexts:
    """Where rollouts begin, and how the same moment is found again."""

    stacks_bshwc: np.ndarray  # uint8 [B, stack, H, W, 3], newest frame last
    rewards_b: np.ndarray  # float32 [B], of arriving at the newest frame
    numbers_b: np.ndarray  # int [B]: of the episodes, counted from the run's start, demonstrations first
    steps_b: np.ndarray  # int [B]: agent steps from their beginnings
    episodes: tuple[Episode, ...]

    def rows(self, picked: Sequence[int]) -> Contexts:
        """Some of them."""
        index = np.asarray(picked, np.int64)
        return Contexts(
            self.stacks_bshwc[index],
            self.rewards_b[index],
            self.numbers_b[index],
            self.steps_b[index],
            tuple(self.episodes[row] for row in picked),
        )


def stack_frames(frames_thwc: np.ndarray | Sequence[np.ndarray], index: int, stack: int) -> np.ndarray:
    """The `stack` frames up to `index`, [stack, H, W, 3]; the first frame fills what is missing.

    Frames are copied whole, which is fast; `as_channels` lays them over each other where they are used.
    """
    picks = range(index - stack + 1, index + 1)
    return np.stack([frames_thwc[max(i, 0)] for i in picks])


def n_step(rewards_t: np.ndarray, start: int, steps: int, discount: float) -> tuple[float, float, int]:
    """Discounted sum of up to `steps` rewards from `start`, the discount of the value after it, and that value's step.

    An episode ends by time, not by failure, so a sum cut short by its end still bootstraps from the last frame.
    """
    window = rewards_t[start : start + steps]
    weights = discount ** np.arange(len(window))
    return float(weights @ window), float(discount ** len(window)), start + len(window)


def transition(
    frames: np.ndarray,
    first: int,
    actions: np.ndarray,
    rewards: np.ndarray,
    start: int,
    stack: int,
    steps: int,
    discount: float,
) -> tuple[np.ndarray, np.ndarray, np.float32, np.float32, np.ndarray]:
    """One n-step transition of a sequence whose step 0 is taken at `frames[first]`, in the order of Transitions."""
    reward, continuing, end = n_step(rewards, start, steps, discount)
    return (
        stack_frames(frames, first + start, stack),
        actions[start],
        np.float32(reward),
        np.float32(continuing),
        stack_frames(frames, first + end, stack),
    )


class Replay:
    """Demonstrations and the newest episodes, in memory and mirrored by files that are numbered from the run's start.

    A file is removed only by `prune`: what a checkpoint knows of stays on disk for as long as it may be resumed from.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        stack: int,
        steps: int,
        discount: float,
        capacity: int | None = None,
    ):
        """capacity: episodes kept besides the demonstrations; None keeps all."""
        self.folder = None if folder is None else pathlib.Path(folder)
        self.stack, self.steps, self.discount, self.capacity = stack, steps, discount, capacity
        self.episodes: list[Episode] = []
        self.demonstrations = 0
        self.added = 0  # ever, demonstrations among them

    def reload(self, count: int, demonstrations: int) -> None:
        """Load what a replay holds once `count` episodes were added, as a checkpoint left it, from disk."""
        self.demonstrations, self.added = demonstrations, count
        numbers = [*range(demonstrations), *range(self._oldest(count), count)]
        self.episodes = [load_episode(self._path(number)) for number in numbers]

    def add(self, episode: Episode, demonstration: bool = False) -> None:
        """Keep an episode and forget the oldest beyond the capacity. Demonstrations come first and stay."""
        if demonstration and self.demonstrations != len(self.episodes):
            raise ValueError("demonstrations are added before any other episode")
        if self.folder is not None:
            save_episode(self._path(self.added), episode)
        self.episodes.append(episode.check())
        self.added += 1
        self.demonstrations += int(demonstration)
        del self.episodes[self.demonstrations : len(self.episodes) - (self.added - self._oldest(self.added))]

    def next_on_disk(self, count: int) -> list[Episode]:
        """Up to `count` episodes that come after those added, where a process that was killed had finished them."""
        if self.folder is None:
            return []
        paths = [self._path(number) for number in range(self.added, self.added + count)]
        return [load_episode(path) for path in itertools.takewhile(pathlib.Path.exists, paths)]

    def prune(self, count: int) -> None:
        """Remove the files that are not needed by a replay to which `count` or more episodes were added."""
        if self.folder is not None:
            remove_numbered(self.folder, range(self.demonstrations, self._oldest(count)))

    def _oldest(self, count: int) -> int:
        """Number of the oldest episode kept, demonstrations apart, when `count` were added."""
        kept = count if self.capacity is None else self.capacity
        return max(self.demonstrations, count - kept)

    def _path(self, number: int) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / f"{number:06d}.npz"

    @property
    def bytes(self) -> int:
        """What the episodes take in memory."""
        return sum(sum(array.nbytes for array in vars(episode).values()) for episode in self.episodes)

    def rewards(self) -> np.ndarray:
        """All real rewards held, float32 [N]."""
        return np.concatenate([episode.rewards for episode in self.episodes])

    def transitions(self, rng: np.random.Generator, batch: int, demonstration_share: float = 0.0) -> Transitions:
        """Draw `batch` n-step transitions, at least this share of them from demonstrations (Ball et al., 2023)."""
        from_demonstrations = round(batch * demonstration_share) if self.demonstrations else 0
        indices = np.concatenate(
            [
                rng.integers(self.demonstrations, size=from_demonstrations, dtype=np.int64)
                if from_demonstrations
                else np.empty(0, np.int64),
                rng.integers(len(self.episodes), size=batch - from_demonstrations, dtype=np.int64),
            ]
        )
        rows = [self._transition(int(i), rng) for i in indices]
        return Transitions(*(np.stack(column) for column in zip(*rows, strict=True)))

    def _transition(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray | np.float32, ...]:
        episode = self.episodes[index]
        start = int(rng.integers(episode.length))
        row = transition(
            episode.frames, 0, episode.actions, episode.rewards, start, self.stack, self.steps, self.discount
        )
        return *row, np.float32(index < self.demonstrations)

    def segments(self, rng: np.random.Generator, batch: int, length: int) -> Segments:
        """Draw `batch` segments of `length` frames, every start of every episode equally likely."""
        return draw_segments(self.episodes, rng, batch, length)

    def contexts(
        self,
        rng: np.random.Generator,
        batch: int,
        horizon: int = 1,
        recent_share: float = 0.0,
        recent_episodes: int = 1,
        own: bool = False,
    ) -> Contexts:
        """Draw where rollouts of `horizon` frames start: never so late that the episode would end before them.

        recent_share: of the rows, which come from the newest `recent_episodes` alone; the others from all episodes.
        own: leave the demonstrations out. Raises ValueError where no episode is left.
        """
        first = self.demonstrations if own else 0
        count = len(self.episodes)
        if count == first:
            raise ValueError("no episodes to imagine from: a simulator knows the states of the run's own alone")
        recent = round(batch * recent_share)
        newest = max(first, count - recent_episodes)
        indices = np.concatenate([rng.integers(newest, count, size=recent), rng.integers(first, count, batch - recent)])
        episodes = [self.episodes[int(index)] for index in indices]
        steps = [int(rng.integers(max(episode.length - horizon + 1, 1))) for episode in episodes]
        pairs = list(zip(episodes, steps, strict=True))
        return Contexts(
            np.stack([stack_frames(episode.frames, step, self.stack) for episode, step in pairs]),
            np.array([rewards_of_arriving(episode.rewards)[step] for episode, step in pairs], np.float32),
            np.array([self._number(int(index)) for index in indices]),
            np.array(steps),
            tuple(episodes),
        )

    def _number(self, index: int) -> int:
        """What an episode is called, counted from the run's start, demonstrations first."""
        return index if index < self.demonstrations else self.added - len(self.episodes) + index


def draw_segments(episodes: Sequence[Episode], rng: np.random.Generator, batch: int, length: int) -> Segments:
    """Segments of `length` frames from episodes that are long enough. Raises ValueError where none is."""
    starts = np.array([max(len(episode.frames) - length + 1, 0) for episode in episodes])
    if not starts.sum():
        raise ValueError(
            f"no episode holds {length} frames; the longest holds {max((len(e.frames) for e in episodes), default=0)}"
        )
    rows = []
    for flat in rng.integers(starts.sum(), size=batch):
        index = int(np.searchsorted(np.cumsum(starts), flat, side="right"))
        start = int(flat - (np.cumsum(starts)[index] - starts[index]))
        rows.append(segment(episodes[index], start, length))
    return Segments(*(np.stack(column) for column in zip(*rows, strict=True)))


def rewards_of_arriving(rewards_t: np.ndarray) -> np.ndarray:
    """Rewards [T], each earned by the action beside it, as those [T + 1] of arriving at each frame: 0 at the first."""
    return np.concatenate([np.zeros(1, np.float32), np.asarray(rewards_t, np.float32)])


def rewards_of_actions(rewards_t: np.ndarray) -> np.ndarray:
    """The inverse of `rewards_of_arriving`: what each action earned, float32 [T - 1]."""
    return np.asarray(rewards_t, np.float32)[1:]


def segment(episode: Episode, start: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3], actions [T, A] (zero after the episode's last), rewards [T] of arriving at each frame."""
    end = start + length
    actions = np.concatenate([episode.actions, np.zeros_like(episode.actions[:1])])[start:end]
    rewards = rewards_of_arriving(episode.rewards)[start:end]
    return episode.frames[start:end], actions, rewards
