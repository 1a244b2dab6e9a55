"""Conversions that the machine ends: by a kill at any moment, and by a disk that is really full."""

import functools
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from agent.replay import Episode, save_episode
from experiments.data.store import Store
from experiments.data.writer import StoreWriter

EVERY_MOMENT = """
import functools, os, signal, sys
from array_record.python import array_record_data_source, array_record_module
from experiments import cli
from experiments.data import convert_command, writer

convert_command.StoreWriter = functools.partial(writer.StoreWriter, shard_bytes=1)

def killed_before(call, moments):
    def counted(*arguments):
        moments[0] -= 1
        if not moments[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return counted

def in_a_process(moment, source, out):
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    sys.argv = ["ivideogpt", "convert-data", "npz", source, out]
    moments = [moment]
    os.replace, os.fsync = killed_before(os.replace, moments), killed_before(os.fsync, moments)
    try:
        cli.main()
    except SystemExit as left:
        os._exit(left.code)

moment, source, out = 1, *sys.argv[1:]
while in_a_process(moment, source, f"{out}/{moment}"):
    assert in_a_process(0, source, f"{out}/{moment}") == 0
    moment += 1
"""
"""Kills a conversion before it makes anything last, each time one step later, and types the same command again."""


def quiet(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
def test_a_conversion_that_is_killed_at_any_moment_ends_like_one_that_never_was(make_episode, tmp_path, contents):
    for number in range(3):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    (tmp_path / "in" / "001.npz").write_bytes(b"broken")
    done = quiet(sys.executable, "-c", EVERY_MOMENT, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    *killed, never_killed = sorted((tmp_path / "out").iterdir(), key=lambda folder: int(folder.name))
    assert len(killed) > 10 and len(Store(never_killed)) == 2
    for folder in killed:
        assert contents(folder) == contents(never_killed), folder.name


def test_a_command_that_is_killed_from_outside_goes_on(ivideogpt, make_episode, tmp_path, contents):
    for number in range(200):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    typed = ["convert-data", "npz", str(tmp_path / "in"), str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-m", "experiments.cli", *typed], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob("out/.tmp/*")):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    for out in (tmp_path / "out", tmp_path / "whole"):
        assert ivideogpt(*typed[:3], out).code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("a small file system cannot be mounted here: there is no mount command")
    mounted = quiet("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_disk_that_is_full_whole_shards_stay_and_with_room_the_same_command_ends(
    ivideogpt, small_disk, tmp_path, contents, monkeypatch
):
    monkeypatch.setattr("experiments.data.convert_command.StoreWriter", functools.partial(StoreWriter, shard_bytes=1))
    rng = np.random.default_rng(0)
    for number in range(6):  # noise, which nothing makes smaller
        frames = rng.integers(256, size=(16, 64, 64, 3), dtype=np.uint8)
        episode = Episode(frames, np.zeros((15, 4), np.float32), np.zeros(15, np.float32), np.zeros(15, bool))
        save_episode(tmp_path / "in" / f"{number:03d}.npz", episode)
    typed = ("convert-data", "npz", tmp_path / "in")
    refused = ivideogpt(*typed, small_disk / "out")
    sentences = [line for line in refused.err.splitlines() if line.startswith("ivideogpt: ")]
    assert (refused.code, len(sentences)) == (2, 1)
    assert "no space left on the disk" in sentences[0]
    shards = {path: path.stat().st_ino for path in (small_disk / "out").glob("0*.arrayrecord")}
    assert 0 < len(shards) < 6
    assert not (small_disk / "out" / ".tmp").exists()
    assert ivideogpt(*typed, small_disk / "out").code == 2  # no room yet
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    for out in (small_disk / "out", tmp_path / "whole"):
        assert ivideogpt(*typed, out).code == 0
    assert contents(small_disk / "out") == contents(tmp_path / "whole")
    assert all(path.stat().st_ino == inode for path, inode in shards.items())
