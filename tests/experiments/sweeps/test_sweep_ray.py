"""Trials on Ray Tune: the same as without it, each with a device of its own, through the death of a machine."""

import json

import pytest

from experiments.errors import UsageError
from experiments.runs.preemption import StopRequest
from experiments.sweeps import local

Cluster = pytest.importorskip("ray.cluster_utils").Cluster
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two machines, as processes of this one, each with a CPU core and what it takes for a GPU."""
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "include_dashboard": False})
    yield machines
    machines.shutdown()


def on(cluster):
    from experiments.sweeps import on_ray  # which needs Ray

    return lambda session: on_ray.run(session, cluster.address)


def test_ray_runs_the_same_trials_as_one_after_the_other_and_gives_each_a_device(sweeping, cluster, tmp_path):
    found = sweeping(resources={"cpus": 1, "gpus": 1}, seeds=[0])
    found.run(on(cluster))
    ended = {name: standing.value for name, standing in found.folder.standings().items()}
    assert all(started["CUDA_VISIBLE_DEVICES"] == "0" for name in ended for started in found.started(name))
    typed = {name: found.started(name)[0]["words"][:-1] for name in ended}
    found.folder.path.rename(tmp_path / "with-ray")
    alone = sweeping(resources={"cpus": 1, "gpus": 1}, seeds=[0])
    alone.run(local.run)
    assert {name: standing.value for name, standing in alone.folder.standings().items()} == ended
    assert {name: alone.started(name)[0]["words"][:-1] for name in ended} == typed


def test_nothing_is_lost_with_a_machine_that_dies(sweeping, cluster):
    second = cluster.add_node(num_cpus=1)
    found = sweeping(seeds=[0])
    found.tell("seconds", 3)

    def kill():  # each machine has room for one of the two
        found.tell("seconds", 0)
        cluster.remove_node(second, allow_graceful=False)

    found.when(20, ["0000-seed0", "0001-seed0"], kill)
    found.run(on(cluster))
    assert list(found.states.values()) == ["done"] * 2
    assert sum(standing.attempts for standing in found.folder.standings().values()) == 3
    for name in found.states:
        assert len(found.folder.run_folder(name).metrics.read_text().splitlines()) == 10


def test_trials_that_do_worse_end_early_and_stay_so_when_the_sweep_goes_on(sweeping, cluster):
    batches = {"drqv2.batch": {"grid": [16, 40]}}
    found, stop = sweeping(space=batches, seeds=[0], early_stopping={"grace": 40, "reduction": 2}), StopRequest()
    found.when(200, ["0000-seed0"], lambda: [found.tell("seconds", 3), setattr(stop, "made", True)])
    found.run(on(cluster), stop, again=True)
    assert found.states["0000-seed0"] == "done"
    found.run(on(cluster), again=True)  # the second is compared with what the first one did in another session
    assert found.states == {"0000-seed0": "done", "0001-seed0": "stopped"}
    assert found.folder.standing("0001-seed0").step < 200
    assert len(found.started("0000-seed0")) == 1


def test_the_worst_of_a_population_goes_on_from_where_the_best_is_with_settings_near_its_own(sweeping, cluster):
    taus = {"drqv2.tau": {"grid": [0.01, 0.5]}}
    found = sweeping(space=taus, seeds=[0], population={"interval": 80, "quantile": 0.5})
    found.tell("seconds", 0.5)
    found.run(on(cluster))
    assert list(found.states.values()) == ["done"] * 2
    taken = [json.loads(line) for line in (found.folder.path / "population.jsonl").read_text().splitlines()]
    assert {(each["trial"], each["from"]) for each in taken} == {("0000-seed0", "0001-seed0")}
    standing = found.folder.standing("0000-seed0")
    assert standing.point == taken[-1]["point"]  # which of the two it is, Ray draws without a seed
    words = found.started("0000-seed0")[-1]["words"]
    assert words[words.index("--change") + 1] == "drqv2.tau" and words[-1].endswith("0000-seed0")
    values = [line["eval/return"] for line in map(json.loads, found.folder.run_folder("0000-seed0").metrics.open())]
    assert len(values) == 10 and values[0] > 10  # its beginning is the other one's


def test_what_no_machine_has_is_said_at_once(sweeping, cluster):
    with pytest.raises(UsageError, match="no machine has the resources of a trial"):
        sweeping(resources={"tpus": 4}).run(on(cluster))


def test_where_ray_itself_fails_it_is_begun_anew_with_what_is_left(sweeping, monkeypatch):
    from experiments.sweeps import on_ray

    handed_out = []

    def fail_once(session, address):
        handed_out.append(session.queue.next().name)
        if len(handed_out) == 1:
            raise RuntimeError("no memory left")

    monkeypatch.setattr(on_ray, "_run_once", fail_once)
    sweeping().run(lambda session: on_ray.run(session, None))
    assert handed_out == ["0000-seed0"] * 2
