"""What a run starts from: a pre-trained world model, the weights of the perceptual loss, and episodes that nobody
learned."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from agent.events import Progress
from agent.replay import Episode
from experiments.envs.demonstrations import collect, collect_random, load_folder
from experiments.envs.simulator import Simulator
from experiments.runs.preemption import StopRequest
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.training.config import Experiment
from experiments.weights.bundled import load_model
from experiments.weights.metric_weights import perceptual_weights
from tokenizer import PerceptualWeights
from world_model import WorldModel, WorldModelConfig, WorldModelParams, fit_params

HELD_OUT, RANDOM_HELD_OUT = "held-out episodes", "held-out random episodes"
"""Of the progress while they are collected."""
HELD_OUT_SEED = 1_000_003
"""Added to the seed under which held-out episodes are collected, so that they share none with the demonstrations."""


def load_pretrained(experiment: Experiment) -> WorldModel | None:
    """The world model that the experiment names; None where it names none. Raises UsageError."""
    return None if experiment.pretrained is None else load_model(experiment.pretrained)


def starting_params(model: WorldModel, wanted: WorldModelConfig) -> WorldModelParams:
    """The weights of a pre-trained model for a configuration that `resolve` made."""
    return fit_params(model.config, model.params, wanted)


def load_perceptual(model: WorldModelConfig | None, path: str | os.PathLike | None) -> PerceptualWeights | None:
    """The weights of LPIPS, where the tokenizer is trained with it. Raises MetricWeightsError."""
    return None if model is None or model.tokenizer.perceptual_weight == 0 else perceptual_weights(path)


@dataclasses.dataclass(frozen=True)
class Collector:
    """Plays episodes into a run folder, and shows how far it is; what is there already is not played again."""

    experiment: Experiment
    env: Simulator
    folder: RunFolder
    display: ProgressDisplay
    stop: StopRequest

    def demonstrations(self, given: str | os.PathLike | None) -> list[Episode]:
        """Those of a folder, or scripted ones."""
        count = self.experiment.demonstrations
        if given is not None:
            return load_folder(given, self.env)[:count]
        own = self.folder.path / "demonstrations"
        return self._collect(collect(self.env, own, count, self.experiment.seed), own)[:count]

    def held_out(self, given: str | os.PathLike | None) -> list[Episode]:
        """Those of a folder; or scripted and random ones in turn, so that each is evaluated under the actions of the
        other kind as well; or as many random ones, where nobody knows how to solve the task."""
        if given is not None:
            return load_folder(given, self.env)
        count, folder = self.experiment.held_out, self.folder.path / "held_out"
        if self.env.scripted_policy() is None:
            return self._random(folder / "random", 2 * count)
        scripted = collect(self.env, folder / "scripted", count, self._held_out_seed, phase=HELD_OUT)
        pairs = zip(
            self._collect(scripted, folder / "scripted")[:count], self._random(folder / "random", count), strict=True
        )
        return [episode for pair in pairs for episode in pair]

    @property
    def _held_out_seed(self) -> int:
        return self.experiment.seed + HELD_OUT_SEED

    def _random(self, folder: pathlib.Path, count: int) -> list[Episode]:
        kind = self.experiment.schedule.random_actions
        episodes = collect_random(self.env, folder, count, self._held_out_seed, kind, RANDOM_HELD_OUT)
        return self._collect(episodes, folder)[:count]

    def _collect(self, collecting: Iterable[Progress], folder: pathlib.Path) -> list[Episode]:
        for progress in collecting:
            self.display.update(progress)
            self.stop.refuse_to_go_on("with the episodes collected so far kept")
        return load_folder(folder) if folder.exists() else []
