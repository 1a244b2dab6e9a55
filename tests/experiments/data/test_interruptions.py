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


SLOWLY = """
import sys, time
from experiments import cli
from experiments.data import convert

add = convert._take
def slowly(*arguments):
    add(*arguments)
    print("one", flush=True)
    time.sleep(0.2)
convert._take = slowly
sys.argv = ["ivideogpt", "convert-data", "npz", *sys.argv[1:]]
cli.main()
"""
"""Converts, and says so after each episode."""


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_command_that_is_asked_to_end_keeps_every_episode(
    ivideogpt, make_episode, tmp_path, contents, number, name, code
):
    """Fault 7: Ctrl-C lost all that was not in a whole shard yet, here everything."""
    for episode in range(8):
        save_episode(tmp_path / "in" / f"{episode:03d}.npz", make_episode(offset=episode))
    typed = [tmp_path / "in", tmp_path / "out"]
    with subprocess.Popen([sys.executable, "-c", SLOWLY, *typed], stdout=-1, stderr=-1, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    said = [line for line in err.splitlines() if line.startswith("ivideogpt: ")]
    kept = 3 + out.count("one")
    assert said == [f"ivideogpt: stopped by {name}, with {kept} episodes done; the same command goes on from there"]
    assert kept < 8
    for episode in range(2):  # which a conversion that goes on does not read again
        (tmp_path / "in" / f"{episode:03d}.npz").write_bytes(b"broken")
    assert ivideogpt("convert-data", "npz", *typed).code == 0
    for episode in range(2):
        save_episode(tmp_path / "in" / f"{episode:03d}.npz", make_episode(offset=episode))
    assert ivideogpt("convert-data", "npz", tmp_path / "in", tmp_path / "whole").code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out" / ".tmp").exists()


def test_what_a_kill_cuts_short_is_kept_up_to_its_last_whole_recording(tmp_path, make_store, numbered, contents):
    """Fault 7: wherever the file of a shard that is not whole ends, it ends like one that was never stopped."""
    whole = make_store([5, 20, 3], shard_bytes=10**9)
    with pytest.raises(KeyboardInterrupt), StoreWriter(tmp_path / "killed", {"name": "set"}, 10**9) as writer:
        writer.add("0", numbered(0, 5))
        writer.add("1", numbered(1, 20))
        raise KeyboardInterrupt
    (spool,) = (tmp_path / "killed" / ".tmp").iterdir()
    raw, lengths = spool.read_bytes(), [5, 20, 3]
    flipped = raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]
    for left, kept in [(raw, 2), (raw[:-1], 1), (flipped, 1), (raw[:10], 0), (b"", 0)]:
        folder = tmp_path / f"{len(left)}-{kept}"
        shutil.copytree(tmp_path / "killed", folder)
        (folder / ".tmp" / spool.name).write_bytes(left)
        with StoreWriter(folder, {"name": "set"}, 10**9) as writer:
            assert writer.done == {str(number) for number in range(kept)}
            for number in range(kept, 3):
                writer.add(str(number), numbered(number, lengths[number]))
            writer.finish()
        assert contents(folder) == contents(whole.folder)


def test_what_was_kept_belongs_to_its_settings(tmp_path, numbered):
    with pytest.raises(KeyboardInterrupt), StoreWriter(tmp_path / "set", {"side": 4}) as writer:
        writer.add("0", numbered(0, 5))
        raise KeyboardInterrupt
    with StoreWriter(tmp_path / "set", {"side": 8}) as writer:
        assert not writer.done


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
