"""Optuna asks for points, is told the mean over seeds, and goes on from its journal."""

import pytest

from experiments.sweeps import local
from experiments.sweeps.folder import STOPPED, Standing, Trial
from experiments.sweeps.search import TrialQueue

pytest.importorskip("optuna")

SEARCH = {"kind": "optuna", "samples": 4, "sampler": "tpe", "seed": 0}
SPACE = {
    "algorithm": {
        "choice": {
            "drqv2": {"drqv2.batch": {"integer": [8, 32]}, "drqv2.learning-rate": {"log-uniform": [1e-5, 1e-2]}},
            "mbpo": {"mbpo.model.horizon": {"integer": [2, 4]}},
        }
    }
}


def values_of(folder):
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(folder.journal))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    return [trial.value for trial in study.trials]


def finish(plan, folder, trial, value, state="done"):
    folder.write(trial, Standing(state=state, value=value))
    plan.finished(trial)


@pytest.fixture
def searched(sweeping):
    found = sweeping(space=SPACE, fixed={}, search=SEARCH)
    with found.folder.claim(found.sweep):
        yield found


def test_the_search_is_told_the_mean_over_seeds_once_all_are_over(searched):
    plan = TrialQueue(searched.sweep, searched.folder)
    first, second = plan.next(), plan.next()
    assert first.point == second.point and (first.seed, second.seed) == (0, 1)
    finish(plan, searched.folder, first, 1.0)
    assert values_of(searched.folder) == [None]
    finish(plan, searched.folder, second, 2.0)
    assert values_of(searched.folder) == [1.5]


def test_a_search_that_goes_on_hands_out_what_was_left_and_asks_for_no_more_than_samples(searched):
    plan = TrialQueue(searched.sweep, searched.folder)
    begun = [plan.next() for _ in range(3)]
    finish(plan, searched.folder, begun[0], 1.0)
    again = TrialQueue(searched.sweep, searched.folder)
    left = list(iter(again.next, None))
    assert begun[1] in left and begun[2] in left and begun[0] not in left
    assert len(left) == again.total - 1 == 7
    assert len({str(trial.point) for trial in [*left, begun[0]]}) == 4  # other points than those of the first session


def test_conditions_hold_in_what_optuna_asks_for(searched):
    for trial in iter(TrialQueue(searched.sweep, searched.folder).next, None):
        assert ("mbpo.model.horizon" in trial.point) == (trial.point["algorithm"] == "mbpo")
        assert ("drqv2.batch" in trial.point) == (trial.point["algorithm"] == "drqv2")


def test_a_point_whose_trials_all_failed_has_no_value(searched):
    plan = TrialQueue(searched.sweep, searched.folder)
    for trial in (plan.next(), plan.next()):
        finish(plan, searched.folder, trial, None, "failed")
    assert values_of(searched.folder) == [None]
    assert plan.next().number == 1


def test_a_trial_that_was_stopped_early_counts_with_what_it_had(searched):
    plan = TrialQueue(searched.sweep, searched.folder)
    for trial in (plan.next(), plan.next()):
        searched.folder.write(trial, Standing(state="paused", value=3.0))
        searched.folder.mark_stopped(trial.name)
        plan.finished(trial)
    assert searched.folder.standing(trial.name).state == STOPPED
    assert values_of(searched.folder) == [3.0]


def test_a_whole_search_runs_without_ray(sweeping):
    found = sweeping(space={"drqv2.batch": {"integer": [8, 32]}}, search=SEARCH, seeds=[0])
    found.run(local.run)
    assert list(found.states.values()) == ["done"] * 4
    assert values_of(found.folder) == [found.folder.standing(name).value for name in found.states]


def test_what_was_begun_is_handed_out_first(sweeping):
    found = sweeping()
    with found.folder.claim(found.sweep):
        found.folder.write(Trial(1, 0, {"drqv2.batch": 16}), Standing(state="paused", attempts=1))
        assert next(trial.name for trial in TrialQueue(found.sweep, found.folder).waiting()) == "0001-seed0"
