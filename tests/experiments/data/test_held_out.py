"""Recordings that nobody learns from: by a benchmark's own list, by a file's own split, by a list that was typed; and
not by way of another set that holds a copy either."""

import itertools

import h5py
import numpy as np
import originals
import pytest

from experiments.data.held_out import find, robonet_test
from experiments.data.loader import DatasetSpec, Loader, LoaderConfig
from experiments.data.recording import DataError, make_recording
from experiments.data.segments import split_of
from experiments.data.store import Store
from experiments.data.writer import StoreWriter
from experiments.evaluation.segments import read_recordings
from experiments.pretraining import presets

TEST = sorted(robonet_test())[:2]
TRAINED = ["berkeley_sawyer_traj1.hdf5", "google_traj2.hdf5"]


def grey(number, length=4):
    """Frames of one grey that says which recording they are of."""
    return np.full((length, 8, 8, 3), 10 * (number + 1), np.uint8)


def greys_of(specs, split, held_out=()):
    """Which recordings a loader draws from."""
    config = LoaderConfig(4, segment_frames=2, resolution=8, augmentation=None, held_out=tuple(held_out))
    loader = Loader(config, specs, split)
    frames = np.concatenate([batch.frames_bthwc for batch in itertools.islice(loader, 12)])
    loader.close()
    return {int(value) // 10 - 1 for value in np.unique(frames)}


def write_trajectory(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        camera = file.create_group("env/cam0_video")
        for t, frame in enumerate(frames):
            camera[f"frame{t}"] = np.frombuffer(originals.png(frame), np.uint8)
        file["policy/actions"] = np.zeros((len(frames) - 1, 5), np.float32)
        file["env/state"] = np.zeros((len(frames), 5), np.float32)


@pytest.fixture
def mixture(tmp_path, ivideogpt):
    """RoboNet with two test recordings (greys 0 and 1) among four, and Open X-Embodiment's copy of all but its own; its
    last episode (grey 7) does not say what it is a copy of."""
    for number, name in enumerate([*TEST, *TRAINED]):
        write_trajectory(tmp_path / "hdf5" / name, grey(number))
    records = []
    copied = TEST[0].removesuffix(".hdf5"), f"frames/{TEST[1]}"
    own = (f"google_traj{number}.hdf5" for number in (3, 4, 5))
    for number, origin in zip((0, 1, 4, 5, 6, 7), (*copied, *own, None), strict=True):
        images = [originals.png(frame) for frame in grey(number)]
        features = {"steps/observation/image": images, "steps/action": np.zeros((4, 5), np.float32)}
        known = {} if origin is None else {"episode_metadata/file_path": [origin.encode()]}
        records.append(originals.example(features | known))
    copies = tmp_path / "robo_net" / "1.0.0"
    copies.mkdir(parents=True)
    (copies / "robo_net-train.tfrecord-00000-of-00001").write_bytes(originals.tfrecord(records))
    assert ivideogpt("convert-data", "robonet", tmp_path / "hdf5", tmp_path / "data" / "robonet").code == 0
    assert ivideogpt("convert-data", "rlds", copies, tmp_path / "data" / "robo_net").code == 0
    return [DatasetSpec(tmp_path / "data" / name) for name in ("robonet", "robo_net")]


def test_no_held_out_recording_reaches_training_through_another_set_of_the_mixture(mixture):
    robonet, copies = (Store(spec.folder) for spec in mixture)
    assert find(robonet.names, robonet.held_out) == set(TEST)
    assert [reason for _, reason in copies.skipped] == [
        f"it is a copy of {TEST[0]}, which is held out",
        f"it is a copy of frames/{TEST[1]}, which is held out",
        "it has no episode_metadata/file_path, so that it may be a copy of a test recording of RoboNet",
    ]
    assert greys_of(mixture, "train") <= {2, 3, 4, 5, 6} and greys_of(mixture[:1], "train") == {2, 3}
    assert greys_of(mixture[:1], "validation") == {0, 1}
    (found,) = read_recordings(mixture[:1], "validation")
    assert {each.name for each in found.recordings} == set(TEST) and "2 recordings held out by name" in found.said


def test_copies_that_an_earlier_version_left_in_are_not_learned_from(mixture, tmp_path):
    with StoreWriter(tmp_path / "old", {"format": "rlds", "source": "robo_net/1.0.0"}) as writer:
        writer.add("0", make_recording(grey(0)))
        writer.finish()
    with pytest.raises(DataError, match="still holds copies of RoboNet's test recordings: convert it again"):
        Loader(LoaderConfig(2), [mixture[0], DatasetSpec(tmp_path / "old")])


def test_the_published_list_of_robonet_has_256_recordings():
    assert len(robonet_test()) == 256 and all(name.endswith(".hdf5") for name in robonet_test())


def test_a_vp2_file_s_own_masks_are_its_split(tmp_path, ivideogpt):
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number in range(4):
            file[f"data/demo_{number}/obs/camera_image"] = grey(number)
            file[f"data/demo_{number}/actions"] = np.zeros((4, 5))
        file["mask/train"], file["mask/valid"] = [b"demo_0", b"demo_3"], [b"demo_1"]
    assert ivideogpt("convert-data", "vp2", tmp_path / "demos.hdf5", tmp_path / "set").code == 0
    assert Store(tmp_path / "set").names == ["demos.hdf5/demo_0", "demos.hdf5/demo_1", "demos.hdf5/demo_3"]
    spec = [DatasetSpec(tmp_path / "set")]
    assert (greys_of(spec, "train"), greys_of(spec, "validation")) == ({0, 3}, {1})


def test_a_typed_list_holds_for_every_set_and_is_refused_where_it_names_nothing(make_store, tmp_path, ivideogpt):
    stores = [make_store([3] * 4, name, first=first) for name, first in (("a", 0), ("b", 2))]
    for store in stores:  # both have recordings 2 and 3, only one has 5
        names = {index: store.names[index] for index in split_of(store, "train", held_out=("2", "5"))}
        assert not {"2", "5"} & set(names.values()) and len(names) == (3 if store is stores[0] else 2)
    (tmp_path / "names").write_text("nobody\n\n")
    typed = ("tokenizer", "--preset", "debug", "--data", stores[0].folder, "--run-dir", tmp_path / "run")
    found = ivideogpt("pretrain", *typed, "--held-out", tmp_path / "names")
    assert "names no recording of the data, which are named like '0'" in found.sentence


def test_converting_with_a_list_makes_it_the_split_of_the_set(tmp_path, ivideogpt):
    for number in range(4):
        np.savez(tmp_path / f"{number}.npz", image=grey(number))
    (tmp_path / "names").write_text("1.npz\n")
    typed = ("convert-data", "npz", tmp_path, tmp_path / "out" / "set", "--held-out", tmp_path / "names")
    assert ivideogpt(*typed).code == 0
    spec = [DatasetSpec(tmp_path / "out" / "set")]
    assert (greys_of(spec, "train"), greys_of(spec, "validation")) == ({0, 2, 3}, {1})


def test_a_run_keeps_its_list_and_a_loader_without_one_goes_on_from_where_it_was(make_store):
    named = presets.get("debug")
    assert named.loader(2).held_out == () and named.held_out == ()
    spec = [DatasetSpec(make_store([3] * 4).folder)]
    plain, with_list = (
        Loader(LoaderConfig(2, segment_frames=2, resolution=4, held_out=names), spec) for names in ((), ("1",))
    )
    assert "held_out" not in plain.segments and with_list.segments["held_out"] == ["1"]
