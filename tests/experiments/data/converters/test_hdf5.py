"""VP2 and RoboNet, in files that h5py writes as those sets are laid out."""

import io
import os

import h5py
import numpy as np
import pytest
from PIL import Image

from experiments.data.recording import DataError


@pytest.fixture
def vp2(tmp_path):
    path = tmp_path / "vp2" / "demos.hdf5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for number in (10, 2):
            group = file.create_group(f"data/demo_{number}")
            frames = np.full((4, 8, 8, 3), number, np.uint8)
            group.create_dataset("obs/agentview_shift_2_image", data=frames)
            group.create_dataset("actions", data=np.full((4, 4), number, np.float64))
        file.create_dataset("data/demo_11/obs/agentview_shift_2_image", data=np.zeros((4, 8, 8, 3), np.uint8))
    (tmp_path / "vp2" / "other.hdf5").write_bytes(b"no HDF5")
    return path.parent


def test_demonstrations_are_read_in_their_order_and_broken_ones_named(converted, vp2):
    store = converted("vp2", vp2)
    assert store.names == ["demos.hdf5/demo_2", "demos.hdf5/demo_10"]
    assert (store.read(1).frames == 10).all() and (store.read(1).actions == 10).all()
    assert [name for name, _ in store.skipped] == ["demos.hdf5/demo_11", "other.hdf5/"]


def test_a_file_whose_list_of_demonstrations_is_damaged_is_one_broken_episode(converted, vp2):
    """It was a traceback: the package says so by a RuntimeError."""
    content = (vp2 / "demos.hdf5").read_bytes()
    (vp2 / "damaged.hdf5").write_bytes(content.replace(b"SNOD", b"XXXX"))
    store = converted("vp2", vp2)
    assert len(store) == 2 and "damaged.hdf5/" in dict(store.skipped)


def test_another_camera_must_be_there(converted, vp2):
    with pytest.raises(DataError, match="no camera front_image among agentview_shift_2_image"):
        converted("vp2", vp2, image_key="front_image")


def trajectory(path, frames, action_size: int, film: bytes | None = None, order: str = "RGB", primitives: str = ""):
    """A RoboNet file: frames as JPEG files or one video, T - 1 actions of numbers, a gripper that closes at step 2."""
    with h5py.File(path, "w") as file:
        camera = file.create_group("env/cam0_video")
        if film is None:
            for t, frame in enumerate(frames):
                buffer = io.BytesIO()
                Image.fromarray(frame).save(buffer, "JPEG", quality=95)
                stored = camera.create_dataset(f"frame{t}", data=np.frombuffer(buffer.getvalue(), np.uint8))
                stored.attrs["image_format"] = order
        else:
            camera.create_dataset("frames", data=np.frombuffer(film, np.uint8)).attrs["image_format"] = order
        steps = np.arange(len(frames), dtype=np.float32)
        file["env/state"] = np.repeat(np.where(steps >= 2, 1.0, -1.0)[:, None], 5, 1)
        file["env/high_bound"], file["env/low_bound"] = np.ones((1, 5)), -np.ones((1, 5))
        file["policy/actions"] = np.repeat(steps[:-1, None], action_size, 1)
        file.create_group("metadata").attrs["primitives"] = primitives


def test_trajectories_of_any_encoding_and_action_size_become_one_set(converted, grey, film, numbers_of, tmp_path):
    frames = grey(range(6))
    frames[..., 2] //= 2
    trajectory(tmp_path / "jpg.hdf5", frames, 5)
    trajectory(tmp_path / "bgr.hdf5", frames[..., ::-1].copy(), 3, order="BGR")
    trajectory(tmp_path / "mp4.hdf5", frames, 4, film(range(6)), primitives="autograsp")
    (tmp_path / "broken.hdf5").write_bytes((tmp_path / "jpg.hdf5").read_bytes()[:3000])
    store = converted("robonet", tmp_path)
    assert store.names == ["bgr.hdf5", "jpg.hdf5", "mp4.hdf5"]
    assert [name for name, _ in store.skipped] == ["broken.hdf5"]
    steps = np.array([0, 1, 2, 3, 4, 0], np.float32)
    bgr, jpg, mp4 = (store.read(i) for i in range(3))
    assert np.abs(jpg.frames.astype(int) - frames).max() < 8
    assert np.abs(bgr.frames.astype(int) - frames).max() < 8
    assert numbers_of(mp4.frames) == list(range(6))
    np.testing.assert_array_equal(jpg.actions, np.repeat(steps[:, None], 5, 1))
    np.testing.assert_array_equal(bgr.actions, np.repeat(steps[:, None], 5, 1) * [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(mp4.actions[:, 3], steps)
    np.testing.assert_array_equal(mp4.actions[:, 4], [-1, 1, 1, 1, 1, 0])  # what the gripper did next


def link(file: h5py.Group, name: str):
    file[name] = h5py.ExternalLink("outside.hdf5", "/numbers")


def store_outside(file: h5py.Group, name: str):
    file.create_dataset(name, (4, 4), "u1", external=[("/etc/passwd", 0, 16)])


def map_outside(file: h5py.Group, name: str):
    layout = h5py.VirtualLayout((4, 4), "u1")
    layout[:] = h5py.VirtualSource("outside.hdf5", "numbers", (4, 4))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("lead", [link, store_outside, map_outside])
@pytest.mark.parametrize("name", ["data/demo_2/actions", "data/demo_2/obs/agentview_shift_2_image", "data/demo_2/obs"])
def test_nothing_is_read_from_another_file(converted, vp2, lead, name):
    """Fault 16: /etc/passwd was read as frames."""
    with h5py.File(vp2 / "outside.hdf5", "w") as file:
        file["numbers"] = np.zeros((4, 4), np.uint8)
    with h5py.File(vp2 / "demos.hdf5", "a") as file:
        del file[name]
        lead(file, name)
        file["data/demo_3"] = h5py.SoftLink("/data/demo_10")  # a link within the file is as good as any
        file["data/demo_4"] = h5py.SoftLink("demo_2")
    store = converted("vp2", vp2)
    assert store.names == ["demos.hdf5/demo_3", "demos.hdf5/demo_10"]
    reasons = dict(store.skipped)
    for demo in ("demo_2", "demo_4"):
        assert "another file" in reasons[f"demos.hdf5/{demo}"]


def test_an_array_that_is_hardly_there_is_refused_before_it_is_read(converted, vp2):
    """Fault 15: a few kilobytes that declare gigabytes took gigabytes of memory."""
    with h5py.File(vp2 / "demos.hdf5", "a") as file:
        file.create_dataset("data/demo_1/obs/agentview_shift_2_image", data=np.zeros((4, 8, 8, 3), np.uint8))
        file.create_dataset("data/demo_1/actions", (10**8, 4), "f4", chunks=(1000, 4), compression="gzip")[0] = 1
        file.create_dataset("data/demo_3/obs/agentview_shift_2_image", data=np.zeros((4, 8, 8, 3), np.uint8))
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((10**8, 4))
        h5py.h5d.create(file["data/demo_3"].id, b"actions", h5py.h5t.NATIVE_FLOAT, space, created)
    assert os.stat(vp2 / "demos.hdf5").st_size > 10**9  # nearly all of it holes
    store = converted("vp2", vp2)
    assert store.names == ["demos.hdf5/demo_2", "demos.hdf5/demo_10"]
    reasons = dict(store.skipped)
    for demo in ("demo_1", "demo_3"):
        assert "'actions' declares 1.6 GB and holds 0." in reasons[f"demos.hdf5/{demo}"]
