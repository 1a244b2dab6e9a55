"""In which order the world model first learns."""

import dataclasses

import pytest

from agent.events import Clock
from agent.mbpo import MBPO, MBPOConfig, ModelSchedule
from agent.mbpo.loop import MBPOCounts


class Recorded(MBPO):
    """Notes what the first training does, and does nothing."""

    def __init__(self, schedule: ModelSchedule):
        self.config, self.counts, self.done = MBPOConfig(model=schedule), MBPOCounts(agent_steps=2000), []

    clock = property(lambda self: Clock())
    action_repeat = 2

    def _note(self, letter: str, counter: str) -> None:
        self.done.append(letter)
        self.counts = self.counts.plus(**{counter: 1})

    def _update_tokenizer(self):
        self._note("t", "tokenizer_updates")

    def _update_transformer(self):
        self._note("m", "transformer_updates")

    def _imagine(self):
        self._note("r", "rollouts")

    def _draw_batch(self):
        return None

    def _learn(self, batch):
        self.done.append("a")
        self.counts = self.counts.plus(agent_updates=self.config.agent.updates_per_agent_step)

    def _evaluate_model(self):
        return "evaluated"

    def _progress(self, *_, **__):
        return iter(())

    def _checkpoint(self):
        return iter(())

    def snapshot(self):
        return None


SCHEDULE = ModelSchedule(initial_tokenizer_updates=3, initial_transformer_updates=3, initial_rollouts=1)


@pytest.mark.parametrize(("alternate", "order"), [(False, "tttmmmr"), (True, "tmtmtmr")])
def test_updates_come_one_after_the_other_or_by_turns_and_a_second_time_not_at_all(alternate, order):
    loop = Recorded(dataclasses.replace(SCHEDULE, alternate_initial=alternate))
    list(loop._prepare_model())
    assert "".join(loop.done) == order
    list(loop._prepare_model())
    assert "".join(loop.done) == order


def test_the_actor_critic_learns_in_imagination_with_rollouts_as_often_as_while_it_acts():
    """Two updates an agent step of two environment steps: a rollout every ten environment steps is one in ten updates.

    20 updates, two at a time, of which the agent's own first ones are not done anew.
    """
    loop = Recorded(dataclasses.replace(SCHEDULE, imagined_updates=20, rollout_every_env_steps=10))
    list(loop._prepare_model())
    assert "".join(loop.done) == "tttmmmr" + 2 * "aaaaar"
    list(loop._prepare_model())
    assert "".join(loop.done) == "tttmmmr" + 2 * "aaaaar"


def test_turns_need_as_many_of_both():
    with pytest.raises(ValueError, match="as many first updates of the tokenizer as of the transformer, found 3 and 4"):
        dataclasses.replace(SCHEDULE, alternate_initial=True, initial_transformer_updates=4)
