"""Where imagined transitions come from, and how many of them a batch holds."""

import dataclasses

import jax
import numpy as np
import pytest
from safe_points import Dot, check_that_all_lead_to, whole_run

from agent.drqv2 import DrQv2Config, NetworkConfig
from agent.events import Evaluated
from agent.loop import Inputs, Schedule
from agent.mbpo import MBPOConfig, ModelSchedule
from agent.mbpo.imagination import CopyLast, Rollouts, SimulatorModel, measure, measure_spread
from agent.mbpo.loop import MBPO, trust
from agent.mbpo.model_evaluation import compare
from agent.replay import Contexts, Episode, Replay
from tokenizer import TokenizerConfig
from world_model import TransformerConfig, WorldModelConfig

MODEL = WorldModelConfig(
    TokenizerConfig(
        resolution=16, channels=(8,), layers_per_block=1, mid_layers=1, latent_channels=4, norm_groups=2, stem_patch=4,
        future_patch=2, attention_heads=2, context_codes=24, future_codes=20, perceptual_weight=0.0,
    ),
    TransformerConfig(layers=1, width=16, heads=2, feed_forward=16, max_positions=64, action_size=4, reward_head=True),
    segment_frames=5,
)  # fmt: skip
SCHEDULE = Schedule(
    agent_steps=25, random_agent_steps=10, evaluate_every_agent_steps=25, evaluation_episodes=1,
    checkpoint_every_agent_steps=10, shown_episodes=1,
)  # fmt: skip
NO_PARAMS = None


def settings(imagination: str, **changes) -> MBPOConfig:
    agent = DrQv2Config(
        NetworkConfig("patches", channels=4, features=4, hidden=8), batch=8, updates_per_agent_step=1,
        initial_updates=2, resolution=16,
    )  # fmt: skip
    model = ModelSchedule(
        start_agent_steps=10, initial_tokenizer_updates=1, initial_transformer_updates=1, initial_rollouts=2,
        rollout_every_env_steps=10, rollout_batch=3, horizon=3, imagination=imagination, **changes,
    )  # fmt: skip
    return MBPOConfig(agent, MODEL, model)


def episode(number: int, length: int = 5) -> Episode:
    """Pictures of one colour: ten times the episode's number, and how far it is."""
    frames = np.zeros((length + 1, 16, 16, 3), np.uint8) + np.arange(length + 1, dtype=np.uint8)[:, None, None, None]
    rewards = np.arange(1, length + 1, dtype=np.float32)
    return Episode(frames + 10 * number, np.zeros((length, 4), np.float32), rewards, np.zeros(length, bool))


def replay_of(count: int, demonstrations: int = 0, capacity: int | None = None, length: int = 5) -> Replay:
    replay = Replay(None, stack=3, steps=3, discount=0.9, capacity=capacity)
    for number in range(count):
        replay.add(episode(number, length), demonstration=number < demonstrations)
    return replay


def forward(stacks_bshwc, key):
    return jax.numpy.ones((len(stacks_bshwc), 4))


POLICY = jax.tree_util.Partial(forward)


def test_no_context_is_so_late_that_the_episode_ends_before_the_rollout():
    contexts = replay_of(4).contexts(np.random.default_rng(0), 200, horizon=3)
    assert set(contexts.steps_b.tolist()) == {0, 1, 2}
    assert (replay_of(4).contexts(np.random.default_rng(0), 50, horizon=9).steps_b == 0).all()


def test_a_context_says_where_it_was_and_what_arriving_there_earned():
    contexts = replay_of(7, demonstrations=2, capacity=3).contexts(np.random.default_rng(0), 200)
    assert set(contexts.numbers_b.tolist()) == {0, 1, 4, 5, 6}
    np.testing.assert_array_equal(contexts.stacks_bshwc[:, -1, 0, 0, 0], 10 * contexts.numbers_b + contexts.steps_b)
    np.testing.assert_array_equal(contexts.rewards_b, contexts.steps_b)
    for index, number in enumerate(contexts.numbers_b):
        np.testing.assert_array_equal(contexts.episodes[index].frames, episode(int(number)).frames)


def test_the_recent_share_comes_from_the_newest_episodes():
    contexts = replay_of(20, demonstrations=5).contexts(
        np.random.default_rng(0), 100, recent_share=0.6, recent_episodes=2
    )
    assert set(contexts.numbers_b[:60].tolist()) == {18, 19} and len(set(contexts.numbers_b[60:].tolist())) > 10
    own = replay_of(20, demonstrations=5).contexts(np.random.default_rng(0), 100, own=True)
    assert own.numbers_b.min() >= 5
    with pytest.raises(ValueError, match="no episodes to imagine from"):
        replay_of(2, demonstrations=2).contexts(np.random.default_rng(0), 4, own=True)


def test_copying_repeats_the_last_frame_and_its_reward():
    contexts = replay_of(3).contexts(np.random.default_rng(0), 4)
    frames, actions, rewards, *told = CopyLast()(contexts, POLICY, jax.random.key(0), 3, NO_PARAMS)
    assert told == [None, None]
    np.testing.assert_array_equal(frames, np.repeat(contexts.stacks_bshwc[:, -1:], 3, axis=1))
    np.testing.assert_array_equal(rewards, np.repeat(contexts.rewards_b[:, None], 3, axis=1))
    assert actions.shape == (4, 3, 4) and (actions == 1).all()


def played(seed: int) -> Episode:
    """An episode of the toy simulator under the policy."""
    env = Dot(16)
    frames, rewards = [env.reset(seed=seed)[0]], []
    for _ in range(5):
        frame, reward, *_ = env.step(np.ones(4))
        frames.append(frame)
        rewards.append(reward)
    return Episode(np.stack(frames), np.ones((5, 4), np.float32), np.array(rewards, np.float32), np.zeros(5, bool))


def contexts_of(episodes: list[Episode], steps: list[int]) -> Contexts:
    stacks = np.stack([np.stack([e.frames[max(s - 1, 0)], e.frames[s]]) for e, s in zip(episodes, steps, strict=True)])
    numbers = np.arange(len(steps))
    return Contexts(stacks, np.zeros(len(steps), np.float32), numbers, np.array(steps), tuple(episodes))


def test_the_simulator_as_model_shows_what_really_followed():
    episodes = [played(100), played(101)]
    model = SimulatorModel(Dot(16), lambda number: [9, 100 + number, 7])
    for _ in range(2):  # the second time from the states that it remembers
        rollouts = model(contexts_of(episodes, [0, 2]), POLICY, jax.random.key(0), 3, NO_PARAMS)
        np.testing.assert_array_equal(rollouts.frames_bfhwc[0], episodes[0].frames[1:4])
        np.testing.assert_array_equal(rollouts.frames_bfhwc[1], episodes[1].frames[3:6])
        assert (rollouts.rewards_bf == 1).all()


def test_rollouts_are_measured_against_what_really_follows_their_actions():
    """Frames off by 51 of 255 at the last of three steps, rewards by 2 at every step and by 5 at the last."""
    episodes = [played(100), played(101)]
    contexts = contexts_of(episodes, [0, 2])
    model = SimulatorModel(Dot(16), lambda number: [100 + number])
    real = model.follow(contexts, np.ones((2, 3, 4), np.float32))
    np.testing.assert_array_equal(real.frames_bfhwc[1], episodes[1].frames[3:6])
    np.testing.assert_array_equal(real.rewards_bf, 1)
    frames = np.full((2, 3, 16, 16, 3), 100, np.uint8)
    off = frames.copy()
    off[:, 2] += 51
    rewards = np.full((2, 3), 3, np.float32)
    rewards[:, 2] = 6
    found = measure(Rollouts(off, real.actions_bfa, rewards), real._replace(frames_bfhwc=frames))
    assert found["true_mse"] == pytest.approx(0.04 / 3) and found["true_mse_last"] == pytest.approx(0.04)
    assert found["true_reward"] == 1 and found["checked_reward"] == 4
    assert found["true_reward_mae"] == 3 and found["true_reward_mae_last"] == 5
    assert measure_spread(Rollouts(off, real.actions_bfa, rewards), real) == {}
    for spreads, expected in ((np.float32(0.1) * rewards, 1), (-rewards, -1), (np.ones_like(rewards), 0)):
        told = Rollouts(off, real.actions_bfa, rewards, None, spreads)
        assert measure_spread(told, real)["spread_correlation"] == pytest.approx(expected)


def test_some_of_the_contexts_are_the_same_moments():
    contexts = contexts_of([played(100), played(101), played(102)], [0, 2, 1]).rows([2, 0])
    assert contexts.numbers_b.tolist() == [2, 0] and contexts.steps_b.tolist() == [1, 0]
    np.testing.assert_array_equal(contexts.stacks_bshwc[0, -1], contexts.episodes[0].frames[1])


def test_a_simulator_that_shows_something_else_again_is_refused():
    model = SimulatorModel(Dot(16), lambda number: [7, 8])
    with pytest.raises(RuntimeError, match="episode 0 played again shows another frame 0"):
        model(contexts_of([played(100)], [1]), POLICY, jax.random.key(0), 1, NO_PARAMS)


@pytest.mark.slow
@pytest.mark.parametrize("imagination", ["simulator", "copy-last"])
def test_a_run_with_a_bound_as_model_resumes_bit_for_bit_and_has_no_model_of_its_own(tmp_path, imagination):
    def make(folder):
        return MBPO(settings(imagination), SCHEDULE, Inputs(Dot(16), [], 0, folder, second_simulator=lambda: Dot(16)))

    whole = make(tmp_path / "whole")
    safe_points, finished = whole_run(whole)
    assert len(finished["imagined"]) > 2 and whole.trained_model() is None
    assert finished["counts"]["transformer_updates"] == finished["counts"]["tokenizer_updates"] == 0
    late = [state for state, _ in safe_points if state.counts["rollouts"] > 2]
    check_that_all_lead_to(finished, [late[0]], make, tmp_path / "whole")


@pytest.mark.slow
def test_what_was_learned_in_imagination_is_evaluated_before_the_first_step_and_resumes_bit_for_bit(tmp_path):
    """From the scenes of two demonstrations, which the simulator finds again, and of the random episodes."""
    schedule = dataclasses.replace(SCHEDULE, evaluate_first_policy=True)
    config = settings("simulator", imagined_updates=12)

    def make(folder):
        given = [played(100), played(101)]
        return MBPO(
            config, schedule,
            Inputs(
                Dot(16), given, 0, folder, second_simulator=lambda: Dot(16),
                demonstration_seeds=lambda index: [5, 100 + index],
            ),
        )  # fmt: skip

    whole = make(tmp_path / "whole")
    evaluated = [event.clock.agent_steps for event in whole.events() if isinstance(event, Evaluated)]
    first_acting = min(steps for steps in range(0, 30, 5) if steps >= schedule.random_agent_steps)
    assert evaluated == [0, first_acting, whole.counts.agent_steps]
    assert isinstance(whole.imagination, SimulatorModel) and {0, 1} <= set(whole.imagination.states)
    safe_points, finished = whole_run(again := make(tmp_path / "again"))
    assert again.counts == whole.counts and finished["counts"]["agent_updates"] == 2 + 12 + 15
    within = [state for state, _ in safe_points if 2 < state.counts["agent_updates"] < 14]
    check_that_all_lead_to(finished, [within[5]], make, tmp_path / "again")


@pytest.mark.slow
def test_offline_the_policy_learns_in_imagination_from_recordings_alone():
    schedule = dataclasses.replace(SCHEDULE, agent_steps=0, evaluate_first_policy=True)
    config = settings("learned", imagined_updates=6)
    offline = MBPO(config, schedule, Inputs(Dot(16), [played(3), played(4)], 0, None, [played(100), played(101)]))
    evaluated = [event.clock.agent_steps for event in offline.events() if isinstance(event, Evaluated)]
    assert evaluated == [0] and offline.counts.episodes == 0
    assert offline.counts.agent_updates == 2 + 6 and offline.counts.transformer_updates == 1
    assert offline.counts.rollouts == 2 + 6 // 5


@pytest.mark.slow
def test_a_run_that_weighs_what_is_imagined_resumes_bit_for_bit(tmp_path):
    config = settings("learned", entropy_scale=0.5, td_lambda=0.5, checked_rollouts=2)

    def make(folder):
        held_out = [played(100), played(101)]
        return MBPO(
            config, SCHEDULE, Inputs(Dot(16), [], 0, folder, held_out, second_simulator=lambda: Dot(16))
        )  # fmt: skip

    whole = make(tmp_path / "whole")
    safe_points, finished = whole_run(whole)
    weights = whole._draw_transitions(np.random.default_rng(0)).weights_b
    assert weights is not None and weights.min() < 1 and weights.max() == 1
    whole._imagine()
    checked = whole.metrics.take()
    assert -1 <= checked["imagined/true_reward"] <= 1 and checked["imagined/true_mse"] > 0
    assert checked["imagined/uncounted_agent_steps"] == whole.counts.rollouts * 2 * config.model.horizon
    whole = make(tmp_path / "again")
    assert whole_run(whole)[1]["counts"] == finished["counts"]
    late = [state for state, _ in safe_points if state.counts["rollouts"] > 2]
    check_that_all_lead_to(finished, [late[0]], make, tmp_path / "whole")


def batch_of(config: MBPOConfig, demonstrations: int, trusted: float = 1.0) -> tuple[int, int, int]:
    """Demonstrated, own and imagined rows of a learner batch."""
    run = MBPO(config, SCHEDULE, Inputs(Dot(16), [episode(0) for _ in range(demonstrations)], 0))
    run.replay.add(episode(1))
    run.imagined.add(0, *(np.full(shape, 99, kind) for shape, kind in (
        ((2, 3, 16, 16, 3), np.uint8), ((2, 3, 16, 16, 3), np.uint8), ((2, 3, 4), np.float32), ((2, 3), np.float32)
    )))  # fmt: skip
    run.trusted = np.float32(trusted)
    batch = run._draw_transitions(np.random.default_rng(0))
    imagined = int((batch.actions_ba == 99).all(axis=1).sum())
    demonstrated = int(batch.demonstrations_b.sum())
    assert len(batch.rewards_b) == config.agent.batch
    return demonstrated, config.agent.batch - demonstrated - imagined, imagined


def test_imagination_takes_nothing_from_the_demonstrations_of_a_batch():
    config = settings("learned")
    shared = dataclasses.replace(config, agent=dataclasses.replace(config.agent, batch=64, demonstration_share=0.5))
    demonstrated, own, imagined = batch_of(shared, 1)
    assert imagined == 16 and demonstrated >= 32 and own <= 16
    assert batch_of(shared, 0)[2] == 32  # without any, the whole batch is shared out


def test_imagined_rewards_are_cut_to_the_range_of_the_real_ones_where_that_is_asked_for():
    def imagined(clip):
        run = MBPO(settings("copy-last", clip_rewards=clip), SCHEDULE, Inputs(Dot(16), [episode(0), episode(1)], 0))
        said = np.array([[-3, 2.5, 99]], np.float32).repeat(3, axis=0)  # real ones are 1 to 5
        frames, actions = np.zeros((3, 3, 16, 16, 3), np.uint8), np.zeros((3, 3, 4), np.float32)
        run.imagination = lambda *_: Rollouts(frames, actions, said)
        run._imagine()
        return run.imagined.rollouts[-1]["rewards"][0].tolist()

    assert imagined(True) == [1, 2.5, 5] and imagined(False) == [-3, 2.5, 99]


def paid(said: Rollouts, **changes) -> tuple[np.ndarray, np.ndarray, dict]:
    """The rewards that a policy learns from, those of the contexts, and what was noted, where a model says `said`."""
    config = settings("learned", **changes)
    transformer = dataclasses.replace(config.world_model.transformer, reward_ensemble=3)
    config = dataclasses.replace(config, world_model=dataclasses.replace(config.world_model, transformer=transformer))
    inputs = Inputs(Dot(16), [played(100), played(101)], 0, second_simulator=lambda: Dot(16))
    inputs = dataclasses.replace(inputs, demonstration_seeds=lambda number: [100 + number])
    run, present, noted = MBPO(config, SCHEDULE, inputs), [], {}

    def imagine(contexts, *_):
        present.append(contexts.rewards_b[:, None])
        return said

    run.imagination = imagine
    run.metrics.note = lambda prefix, metrics, step: noted.update(metrics)
    run._imagine()
    return run.imagined.rollouts[-1]["rewards"], present[0], noted


SAID = Rollouts(
    np.zeros((3, 3, 16, 16, 3), np.uint8), np.zeros((3, 3, 4), np.float32),
    np.random.default_rng(0).normal(5, 1, (3, 3)).astype(np.float32), np.zeros((3, 3), np.float32),
    np.random.default_rng(1).uniform(0.1, 2, (3, 3)).astype(np.float32),
)  # fmt: skip


def test_imagined_rewards_are_lowered_by_what_the_model_is_unsure_of_where_that_is_asked_for():
    for pessimism in (0.0, 2.0):
        rewards, _, noted = paid(SAID, reward_pessimism=pessimism)
        np.testing.assert_allclose(rewards, SAID.rewards_bf - pessimism * SAID.reward_spreads_bf, rtol=1e-5)
        assert noted["reward_spread"] == pytest.approx(SAID.reward_spreads_bf.mean())


def test_what_an_imagined_reward_changes_counts_less_from_step_to_step_where_that_is_asked_for():
    for share in (1.0, 0.5, 0.0):
        rewards, present, _ = paid(SAID, reward_trust=share, reward_pessimism=1.0)
        counts = np.array([share, share**2, share**3])
        expected = present + counts * (SAID.rewards_bf - SAID.reward_spreads_bf - present)
        np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def test_whether_an_ensemble_knows_its_errors_does_not_depend_on_what_the_policy_is_paid():
    found = [paid(SAID, reward_pessimism=each, checked_rollouts=3)[2] for each in (0.0, 3.0)]
    assert (
        found[0]["spread_correlation"] == found[1]["spread_correlation"] and abs(found[0]["spread_correlation"]) < 0.9
    )
    assert found[0]["checked_reward"] > found[1]["checked_reward"]


@pytest.mark.parametrize(("trusted", "rows"), [(0.0, 0), (0.5, 16), (1.0, 32)])
def test_the_gate_lets_imagined_rows_through_as_far_as_the_model_is_trusted(trusted, rows):
    config = settings("learned", gate=True)
    config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, batch=64))
    assert batch_of(config, 0, trusted)[2] == rows


@pytest.mark.parametrize(("imagined", "shuffled", "expected"), [(0, 5, 1.0), (5, 5, 0.0), (4, 5, 0.72), (9, 5, 0.0)])
def test_trust_grows_with_the_margin_over_both_bounds(imagined, shuffled, expected):
    """Every pixel is off by so many grey levels; copying the last frame by ten."""
    frames = [np.full((1, 2, 4, 4, 3), 100 + off, np.uint8) for off in (0, imagined, shuffled)]
    context, zeros = np.full((1, 1, 4, 4, 3), 110, np.uint8), np.zeros((1, 2), np.float32)
    comparison = compare(context, frames[0], frames[1], frames[2], zeros, zeros)
    assert trust(comparison) == pytest.approx(expected, abs=1e-5)


def test_what_the_gate_decided_is_in_the_checkpoint():
    run = MBPO(settings("learned", gate=True), SCHEDULE, Inputs(Dot(16), [], 0))
    run.trusted = np.float32(0.25)
    again = MBPO(settings("learned", gate=True), SCHEDULE, Inputs(Dot(16), [], 0))
    again.take(run.arrays())
    assert again.trusted == np.float32(0.25)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="checked_rollouts measures the learned model, and imagination is simulator"):
        ModelSchedule(imagination="simulator", checked_rollouts=1)
    with pytest.raises(ValueError, match="checked_rollouts is 4, but a batch holds 3 rollouts"):
        ModelSchedule(rollout_batch=3, checked_rollouts=4)
    with pytest.raises(ValueError, match="gate measures the learned model, and imagination is copy-last"):
        ModelSchedule(gate=True, imagination="copy-last")
    with pytest.raises(ValueError, match="what the learned model is unsure of, and imagination is copy-last"):
        ModelSchedule(entropy_scale=0.1, imagination="copy-last")
    with pytest.raises(ValueError, match="of which the learned model is unsure, and imagination is simulator"):
        ModelSchedule(reward_pessimism=1.0, imagination="simulator")
    with pytest.raises(
        ValueError, match="reward_trust doubts the rewards of the learned model, and imagination is sim"
    ):
        ModelSchedule(reward_trust=0.9, imagination="simulator")
    for make in (
        lambda config: config.for_simulator(4, 16),
        lambda config: MBPO(config, SCHEDULE, Inputs(Dot(16), [], 0)),
    ):
        with pytest.raises(ValueError, match="set reward_ensemble of the transformer to 5"):
            make(settings("learned", reward_pessimism=1.0))
    with pytest.raises(ValueError, match="expected learned, simulator or copy-last"):
        ModelSchedule(imagination="dreamt")
    with pytest.raises(ValueError, match="needs a second simulator"):
        MBPO(settings("simulator"), SCHEDULE, Inputs(Dot(16), [], 0))
