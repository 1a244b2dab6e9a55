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

    def _note(self, letter: str, counter: str) -> None:
        self.done.append(letter)
        self.counts = self.counts.plus(**{counter: 1})

    def _update_tokenizer(self):
        self._note("t", "tokenizer_updates")

    def _update_transformer(self):
        self._note("m", "transformer_updates")

    def _imagine(self):
        self._note("r", "rollouts")

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


def test_turns_need_as_many_of_both():
    with pytest.raises(ValueError, match="as many first updates of the tokenizer as of the transformer, found 3 and 4"):
        dataclasses.replace(SCHEDULE, alternate_initial=True, initial_transformer_updates=4)
