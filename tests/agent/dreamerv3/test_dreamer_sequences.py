"""Laws of drawing sequences and of the latents kept for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3 import memory, rssm
from agent.dreamerv3.config import SIZES
from agent.dreamerv3.rssm import State
from agent.dreamerv3.sequences import NOWHERE, Rows, draw, steps_in
from agent.replay import Replay

LENGTHS = (3, 4, 6, 2)  # agent steps; the first is a demonstration
DEBUG = SIZES["debug"]


@pytest.fixture
def replay(make_episode) -> Replay:
    """Frame t of episode i is filled with 10 i + t."""
    replay = Replay(None, 1, 1, 1.0, capacity=2)
    for index, length in enumerate(LENGTHS):
        replay.add(make_episode(length, 10 * index), demonstration=index == 0)
    return replay


ROWS = Rows(demonstrations=1, capacity=2, frames=7)
STREAM = [0, 1, 2, 3, 20, 21, 22, 23, 24, 25, 26, 30, 31, 32]
"""What the frames of episodes 0, 2 and 3 are filled with; 1 is forgotten."""


def draws(replay: Replay, length: int, count: int = 300):
    return draw(replay, ROWS, np.random.default_rng(0), count, length)


def test_a_sequence_is_a_piece_of_the_stream_of_all_episodes_held(replay):
    found = {tuple(frames[:, 0, 0, 0]) for frames in draws(replay, 5).frames_bthwc}
    assert found == {tuple(STREAM[start : start + 5]) for start in range(len(STREAM) - 4)}
    assert steps_in(replay) == len(STREAM)


def test_a_step_comes_with_what_led_to_it(replay):
    """The reward of arriving at frame t is t; action t - 1 led there; an episode's first step has neither."""
    s, actions = draws(replay, 5), {10 * i: e.actions for i, e in zip((0, 2, 3), replay.episodes, strict=True)}
    for place in np.ndindex(s.rewards_bt.shape):
        episode, step = divmod(int(s.frames_bthwc[place][0, 0, 0]), 10)
        assert s.rewards_bt[place] == step
        np.testing.assert_array_equal(s.actions_bta[place], actions[10 * episode][step - 1] if step else np.zeros(4))
        assert s.first_bt[place] == (step == 0)
        assert s.last_bt[place] == (step == LENGTHS[episode])
        assert not s.terminal_bt[place]


def test_a_sequence_goes_on_from_the_step_before_it_and_a_row_belongs_to_one_step(replay):
    rows = {0: 0, 2: 14, 3: 7}  # the third episode took the slot of the forgotten one
    s = draws(replay, 5)
    for frames, before, own in zip(s.frames_bthwc[..., 0, 0, 0], s.before_b, s.rows_bt, strict=True):
        place = STREAM.index(frames[0]) - 1
        assert before == (NOWHERE if place < 0 else rows[STREAM[place] // 10] + STREAM[place] % 10)
        expected = [rows[int(value) // 10] + int(value) % 10 for value in frames]
        assert all(row in (NOWHERE, wanted) for row, wanted in zip(own, expected, strict=True))
    written = s.rows_bt[s.rows_bt != NOWHERE]
    assert len(written) == len(set(written)) == len(STREAM)


def test_no_two_episodes_held_share_a_row():
    for newest in range(2, 20):
        slots = [ROWS.of_episode(number) for number in (0, newest - 1, newest)]
        assert len({*slots}) == 3
        assert all(0 <= slot <= ROWS.count - ROWS.frames for slot in slots)


def states(*shape: int) -> State:
    key = jax.random.key(0)
    classes = jax.random.randint(key, (*shape, DEBUG.stoch), 0, DEBUG.classes)
    return State(jax.random.normal(key, (*shape, DEBUG.deter)), jax.nn.one_hot(classes, DEBUG.classes))


def test_what_is_written_is_read_again():
    written, rows = states(2, 3), jnp.array([[4, NOWHERE, 0], [2, 1, 5]])
    latents = memory.write(memory.blank(DEBUG, 6), rows, written)
    for place in np.ndindex(rows.shape):
        found = memory.read(DEBUG, latents, rows[place][None])
        wanted = jax.tree.map(lambda x, place=place: x[place][None], written)
        if rows[place] == NOWHERE:
            wanted = rssm.initial(DEBUG, 1)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_row_that_nothing_was_written_to_is_the_state_before_an_episode():
    found = memory.read(DEBUG, memory.blank(DEBUG, 4), jnp.array([0, 3, NOWHERE]))
    jax.tree.map(np.testing.assert_array_equal, found, rssm.initial(DEBUG, 3))
