"""Every published number stands in docs/published_settings.csv; a preset has it, or the table says why not."""

import csv
import dataclasses
import functools
import pathlib

import pytest

from agent.mbpo import MBPOConfig
from experiments.pretraining import presets as pretraining
from experiments.training import presets as training
from experiments.training.resolve import SimulatorFacts, resolve
from world_model import TransformerConfig, WorldModelConfig

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "published_settings.csv"
META_WORLD = "meta-world-paper"


@dataclasses.dataclass(frozen=True)
class Fact:
    """A row of the table."""

    preset: str
    setting: str
    published: str
    reason: str
    where: str


def facts() -> list[Fact]:
    with open(TABLE, newline="", encoding="utf-8") as file:
        return [Fact(*row) for row in list(csv.reader(file))[1:]]


def written(value) -> str:
    """A value as the table has it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def of_world_model(model, setting: str):
    """A setting of the world model by its last name, or by its whole one."""
    named = {
        "dropout of cross-attention": model.tokenizer.dropout,
        "dropout of attention": model.transformer.dropout,
        "action_size": model.transformer.action_size,
        "reward_head": model.transformer.reward_head,
        "transformer compute_dtype": model.transformer.compute_dtype,
    }
    if setting in named:
        return named[setting]
    if setting.startswith(("tokenizer_optimizer.", "transformer_optimizer.")):
        part, _, name = setting.partition(".")
        return getattr(getattr(model, part), name)
    return getattr(model if hasattr(model, setting) else model.tokenizer, setting)


def of_pretraining(preset, setting: str):
    part, _, name = setting.partition(".")
    if part in ("tokenizer", "transformer") and name in ("steps", "batch"):
        return getattr(getattr(preset, part), name)
    if name == "segment_frames":
        return preset.tokenizer.segment_frames or preset.world_model.segment_frames
    if name == "augmentation":
        own = getattr(preset, part).augmentation
        return preset.augmentation if own is None else own
    if setting == "strong_augmentation":
        return preset.strong_augmentation
    if setting == "videos in the tokenizer's mixture":
        return preset.videos
    return of_world_model(preset.scheduled, setting)


@functools.cache
def meta_world(task: str):
    """The run of a task as it is resolved with a model in the published layout."""
    experiment = training.fit_task(dataclasses.replace(training.get(META_WORLD), task=task), ())
    scripted = SimulatorFacts(action_size=4, resolution=64, demonstrated=True)
    published = WorldModelConfig(transformer=TransformerConfig())
    return resolve(experiment, scripted, published, training.kept(META_WORLD))


def of_meta_world(task: str, setting: str):
    run = meta_world(task)
    algorithm = run.settings_as(MBPOConfig)
    schedule = algorithm.model
    named = {
        "pretrained": run.pretrained,
        "render_quality": run.render_quality,
        "demonstrations": run.demonstrations,
        "env_steps": 2 * run.schedule.agent_steps,
        "imagined transitions": schedule.imagined_capacity * schedule.rollout_batch * schedule.horizon,
        "real transitions": run.schedule.replay_episodes * 100,
    }
    if setting in named:
        return named[setting]
    if setting.startswith("agent."):
        return functools.reduce(getattr, setting.split(".")[1:], algorithm.agent)
    owner = next((owner for owner in (schedule, run.schedule) if hasattr(owner, setting)), None)
    return of_world_model(algorithm.world_model, setting) if owner is None else getattr(owner, setting)


def ours(fact: Fact):
    if fact.preset.startswith(META_WORLD):
        return of_meta_world(fact.preset.removeprefix(META_WORLD).strip() or "plate-slide", fact.setting)
    return of_pretraining(pretraining.get(fact.preset), fact.setting)


def differences(rows) -> tuple[list[str], list[str]]:
    """Settings that differ from the published ones without a reason, and reasons for what does not differ."""
    unexplained, stale = [], []
    for fact in rows:
        found = written(ours(fact))
        if found != fact.published and not fact.reason:
            unexplained.append(f"{fact.preset} {fact.setting}: {found}, published {fact.published} ({fact.where})")
        if found == fact.published and fact.reason:
            stale.append(f"{fact.preset} {fact.setting}")
    return unexplained, stale


def test_every_preset_has_the_published_values_or_a_reason_for_another():
    assert differences(facts()) == ([], [])


def test_a_difference_that_nobody_explained_is_found():
    made_up = [Fact("bair-64", "future_sample", "6", "", "nowhere"), Fact("bair-64", "context_frames", "1", "why", "")]
    assert differences(made_up) == (
        ["bair-64 future_sample: 7, published 6 (nowhere)"],
        ["bair-64 context_frames"],
    )


def test_every_published_preset_is_in_the_table():
    names = {fact.preset.split(" ")[0] for fact in facts()}
    assert names == {preset.preset for preset in pretraining.PUBLISHED} | {META_WORLD}
    assert {fact.preset for fact in facts() if " " in fact.preset} == {
        f"{META_WORLD} {task}" for task in training._PRESETS[META_WORLD].tasks
    }


@pytest.mark.parametrize(("turns", "updates"), [(1_000_000, 500_000), (200_005, 100_003), (600_005, 300_003)])
def test_a_published_step_is_a_turn_of_the_tokenizer_or_of_the_discriminator(turns, updates):
    assert pretraining.updates(turns) == updates == sum(1 for turn in range(turns) if turn % 2 == 0)


def test_what_was_typed_stands_before_the_budget_of_a_task():
    typed = dataclasses.replace(training.get(META_WORLD), task="door-lock", demonstrations=3)
    fitted = training.fit_task(typed, {"demonstrations"})
    assert (fitted.demonstrations, fitted.schedule.agent_steps) == (3, 75_000)
    assert training.fit_task(training.get("laptop"), ()) == training.get("laptop")
