"""Settings that no run can use are refused before anything is done, in one sentence that names the setting."""

import dataclasses
import math

import pytest

from agent.dreamerv3 import DreamerConfig, LaPropConfig
from agent.drqv2 import DrQv2Config, NetworkConfig
from agent.episodes import RandomActions
from agent.loop import Schedule
from agent.mbpo import ModelSchedule
from experiments.evaluation.protocol import Protocol
from experiments.pretraining import presets as pretraining
from experiments.pretraining.config import Stage
from experiments.training import presets
from tokenizer import OptimizerConfig, TokenizerConfig
from world_model import TransformerConfig, WorldModelConfig

REFUSED = [
    (Schedule(), "agent_steps", -1, "at least 0"),
    (Schedule(), "evaluation_episodes", 0, "at least 1"),
    (Schedule(), "evaluate_every_agent_steps", 0, "at least 1"),
    (Schedule(), "checkpoint_every_agent_steps", 0, "at least 1"),
    (Schedule(), "shown_episodes", 0, "at least 1"),
    (RandomActions(), "hold_agent_steps", 0, "at least 1"),
    (DrQv2Config(), "batch", 0, "at least 1"),
    (DrQv2Config(), "learning_rate", -1e-4, "a number above 0"),
    (DrQv2Config(), "learning_rate", math.nan, "a number above 0"),
    (DrQv2Config(), "demonstration_share", 1.5, "a number from 0 to 1"),
    (DrQv2Config(), "discount", -0.1, "a number from 0 to 1"),
    (DrQv2Config(), "updates_per_agent_step", 0, "at least 1"),
    (NetworkConfig(), "hidden", 0, "at least 1"),
    (ModelSchedule(), "horizon", 0, "at least 1"),
    (ModelSchedule(), "tokenizer_batch", 0, "at least 1"),
    (ModelSchedule(), "real_share", -0.5, "a number from 0 to 1"),
    (ModelSchedule(), "tokenizer_every_env_steps", 0, "at least 1"),
    (ModelSchedule(), "top_k", 0, "at least 1"),
    (DreamerConfig(), "batch", 0, "at least 1"),
    (DreamerConfig(), "train_ratio", -1.0, "at least 0"),
    (DreamerConfig(), "return_percentiles", (95.0, 5.0), "two that rise, from 0 to 100"),
    (LaPropConfig(), "learning_rate", 0.0, "a number above 0"),
    (OptimizerConfig(), "learning_rate", 0.0, "a number above 0"),
    (OptimizerConfig(), "clip_norm", math.inf, "a number above 0"),
    (OptimizerConfig(), "accumulate", 0, "at least 1"),
    (OptimizerConfig(), "warmup_steps", -1, "at least 0"),
    (TokenizerConfig(), "dropout", 1.1, "a number from 0 to 1"),
    (TokenizerConfig(), "future_sample", 0, "at least 1"),
    (TransformerConfig(), "max_positions", 0, "at least 1"),
    (WorldModelConfig(), "reward_weight", -1.0, "at least 0"),
    (Protocol(), "top_k", 0, "at least 1"),
    (Stage(3, 2), "steps", -5, "at least 0"),
    (Stage(3, 2), "batch", 0, "at least 1"),
    (pretraining.get("debug"), "seed", -1, "at least 0"),
    (pretraining.get("debug"), "validate_every", 0, "at least 1"),
    (pretraining.get("debug"), "validation_share", 2.0, "a number from 0 to 1"),
    (pretraining.get("debug"), "ema_decay", -0.5, "a number from 0 to 1"),
    (presets.get("debug"), "seed", -1, "at least 0"),
    (presets.get("debug"), "keep_checkpoints", 0, "at least 1"),
    (presets.get("debug"), "demonstrations", -1, "at least 0"),
]


@pytest.mark.parametrize(("config", "name", "value", "limit"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_a_configuration_refuses_a_value_that_no_run_can_use(config, name, value, limit):
    """Faults 12 and 14."""
    with pytest.raises(ValueError, match=rf"^{name} (is|are) .*, expected {limit}$"):
        dataclasses.replace(config, **{name: value})


def test_a_world_model_needs_held_out_episodes_and_other_algorithms_do_not():
    """Fault 14: the run ended in a traceback once the model was trained."""
    with pytest.raises(ValueError, match="held_out is 0, but a world model is evaluated on at least 1"):
        dataclasses.replace(presets.get("debug"), held_out=0)
    assert dataclasses.replace(presets.get("debug", "drqv2"), held_out=0).held_out == 0


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["--seed", "-1"], "seed is -1, expected at least 0"),
        (["--schedule.evaluation-episodes", "0"], "evaluation_episodes is 0, expected at least 1"),
        (["--mbpo.model.real-share", "1.5"], "real_share is 1.5, expected a number from 0 to 1"),
        (["--schedule.agent-steps", "-100"], "agent_steps is -100, expected at least 0"),
    ],
)
def test_train_says_in_one_sentence_what_it_cannot_use(ivideogpt, tmp_path, typed, sentence):
    """Fault 14."""
    said = ivideogpt("train", "--preset", "debug", "--run-dir", tmp_path / "run", *typed)
    assert (said.code, said.sentence) == (2, f"ivideogpt: {sentence}")
    assert not (tmp_path / "run").exists()


def test_collecting_nothing_is_refused(ivideogpt, tmp_path):
    """Fault 14."""
    said = ivideogpt("collect-demos", "--task", "handle-press", "--out", tmp_path / "demos", "--episodes", "0")
    assert said.sentence == "ivideogpt: episodes is 0, expected at least 1"
