"""The loader: a batch depends on the seed and its number alone, whoever reads it, and however often it was stopped."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from experiments.data.loader import DatasetSpec, Loader, LoaderConfig
from experiments.data.recording import DataError
from experiments.runs.checkpoints import Checkpoints

CONFIG = LoaderConfig(batch=4, segment_frames=3, resolution=4, seed=1)
PLAIN = dataclasses.replace(CONFIG, augmentation=None)


@pytest.fixture
def specs(make_store):
    """Two sets of unlike action sizes: recordings 0 to 19 without rewards, and 100 to 109."""
    small = make_store([6] * 20, "small", action_size=1, rewards=False)
    large = make_store([9] * 10, "large", first=100, action_size=3)
    return [DatasetSpec(small.folder, weight=3.0), DatasetSpec(large.folder, step=2)]


def take(loader: Loader, count: int) -> list:
    batches = list(itertools.islice(loader, count))
    loader.close()
    return batches


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_batches_have_the_shapes_that_the_world_model_takes(specs):
    (batch,) = take(Loader(CONFIG, specs), 1)
    assert (batch.frames_bthwc.shape, batch.frames_bthwc.dtype) == ((4, 3, 4, 4, 3), np.uint8)
    assert (batch.actions_bta.shape, batch.actions_bta.dtype) == ((4, 3, 3), np.float32)
    assert (batch.rewards_bt.shape, batch.rewards_bt.dtype) == ((4, 3), np.float32)


def test_a_seed_decides_every_batch(specs):
    assert_same(take(Loader(CONFIG, specs), 6), take(Loader(CONFIG, specs), 6))
    other = take(Loader(dataclasses.replace(CONFIG, seed=2), specs), 6)
    with pytest.raises(AssertionError):
        assert_same(take(Loader(CONFIG, specs), 6), other)


def test_threads_change_nothing(specs):
    whole = take(Loader(CONFIG, specs), 6)
    assert_same(take(Loader(dataclasses.replace(CONFIG, threads=0), specs), 6), whole)
    assert_same(take(Loader(dataclasses.replace(CONFIG, threads=5), specs), 6), whole)


def test_worker_processes_change_nothing_and_their_state_fits_any_number_of_them(specs):
    whole = take(Loader(CONFIG, specs), 6)
    loader = Loader(dataclasses.replace(CONFIG, workers=2), specs)
    assert_same(take(loader, 3), whole[:3])
    fresh = Loader(CONFIG, specs)
    fresh.restore(loader.state())
    assert_same(take(fresh, 3), whole[3:])


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_restored_loader_goes_on_like_one_that_was_never_stopped(specs, stop):
    whole = take(Loader(CONFIG, specs), 6)
    loader = Loader(CONFIG, specs)
    take(loader, stop)
    state = json.loads(json.dumps(loader.state()))
    fresh = Loader(CONFIG, specs)
    take(fresh, 2)
    fresh.restore(state)
    assert_same(take(fresh, 6 - stop), whole[stop:])


def test_a_checkpoint_of_a_run_holds_the_state(specs, tmp_path):
    loader = Loader(CONFIG, specs)
    take(loader, 2)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(2, {"weights": np.zeros(1)}, {"loader": loader.state()})
        checkpoints.wait()
        extra = checkpoints.restore({"weights": np.zeros(1)}).extra
    fresh = Loader(CONFIG, specs)
    fresh.restore(extra["loader"])
    assert_same(take(fresh, 2), take(loader, 2))


def test_hosts_share_every_batch_and_a_state_fits_any_number_of_them(specs):
    (whole, *_), state = take(one := Loader(CONFIG, specs), 3), one.state()
    hosts = [Loader(CONFIG, specs, host=host, hosts=2) for host in range(2)]
    batches = [take(loader, 3)[0] for loader in hosts]
    for host, batch in enumerate(batches):
        np.testing.assert_array_equal(batch.frames_bthwc, whole.frames_bthwc[host::2])
    assert hosts[0].state() == hosts[1].state() == state


def test_an_epoch_shows_every_recording_once_and_the_next_in_another_order(specs):
    config = dataclasses.replace(PLAIN, validation_share=0.0)
    batches = take(Loader(config, specs[:1]), 10)
    seen = np.concatenate([batch.frames_bthwc[:, 0, 0, 0, 0] for batch in batches])
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert list(seen[:20]) != list(seen[20:])
    starts = np.concatenate([batch.frames_bthwc[:, 0, 0, 0, 1] for batch in batches])
    assert set(starts) == {0, 1, 2, 3}


def test_a_mixture_keeps_its_weights_and_each_set_its_step(specs):
    batches = take(Loader(PLAIN, specs), 20)
    frames = np.concatenate([batch.frames_bthwc[:, :, 0, 0] for batch in batches]).astype(int)
    of_large = frames[:, 0, 0] >= 100
    assert of_large.sum() == 20  # a quarter of 80
    assert (np.diff(frames[of_large, :, 1]) == 2).all()
    assert (np.diff(frames[~of_large, :, 1]) == 1).all()
    actions = np.concatenate([batch.actions_bta for batch in batches])
    assert (actions[~of_large, :, 1:] == 0).all()
    np.testing.assert_array_equal(actions[of_large, :, 2], frames[of_large, :, 1])


def test_what_is_held_out_is_never_trained_on(specs):
    seen = {
        split: set(np.concatenate([b.frames_bthwc[:, 0, 0, 0, 0] for b in take(Loader(PLAIN, specs, split), 40)]))
        for split in ("train", "validation")
    }
    assert len(seen["validation"]) == 4  # two of each set
    assert len(seen["train"]) == 26
    assert not seen["train"] & seen["validation"]


def test_a_state_of_other_data_or_settings_is_refused(specs):
    state = Loader(CONFIG, specs).state()
    for other in (
        Loader(dataclasses.replace(CONFIG, segment_frames=4), specs),
        Loader(CONFIG, specs[:1]),
        Loader(CONFIG, specs, "validation"),
    ):
        with pytest.raises(DataError, match="not those of the checkpoint"):
            other.restore(state)


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_found_while_loading_and_the_recording_named(specs, workers):
    for path in specs[1].folder.glob("*.arrayrecord"):
        content = bytearray(path.read_bytes())
        content[300:304] = b"\xff\x00\xff\x00"
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"recording '\d+' is damaged"):
        take(Loader(dataclasses.replace(CONFIG, workers=workers), specs), 6)


def test_a_batch_that_hosts_cannot_share_is_refused(specs):
    with pytest.raises(DataError, match="cannot be shared by 3 hosts"):
        Loader(CONFIG, specs, hosts=3)


@pytest.mark.parametrize(("share", "changed"), [(0.01, True), (0.0, False), (0.2, False)])
def test_a_run_whose_small_set_held_less_out_before_does_not_go_on_as_if_nothing_had_changed(specs, share, changed):
    """Fault 6: of larger sets as much is held out as before, and their runs go on."""
    segments = Loader(dataclasses.replace(PLAIN, validation_share=share), specs).segments
    assert ("fewest_held_out" in segments) == changed
