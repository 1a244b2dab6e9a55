"""Reading in Ray tasks: what is written is the same, whatever dies. Ray itself is stood in for: tasks run here."""

import importlib.util

import numpy as np
from in_process_ray import Died, travelled

from experiments import cli
from experiments.data.convert import convert
from experiments.data.converters.registry import FORMATS
from experiments.data.converters.source import ConvertOptions, EpisodeRef, Source
from experiments.data.ray_tasks import read_in_tasks
from experiments.data.writer import StoreWriter
from experiments.runs.ray_engine import RETRIES


def source(numbered, deaths=None, broken=()):
    """Twelve episodes, four in a file; `deaths`: how often reading one of them ends its process."""
    left = dict(deaths or {})

    def one(number):
        if left.get(number, 0):
            left[number] -= 1
            raise Died
        if number in broken:
            raise OSError("bad sector\nand more")
        return numbered(number, 5)

    return Source(12, [EpisodeRef(str(i), lambda i=i: one(i), f"file-{i // 4}") for i in range(12)])


def write(folder, numbered, ray=None, limit=None, **of_source):
    with StoreWriter(folder, {}, 600) as writer:
        reading = (lambda episodes, done: read_in_tasks(episodes, done, 2)) if ray else None
        list(convert(source(numbered, **of_source), writer, limit, read_ahead=reading))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def names(ray) -> list[list[str]]:
    """Of the episodes that each task was to read."""
    return [[episode.name for episode in episodes] for (episodes,) in ray.begun]


def test_tasks_write_the_same_bytes_a_task_for_each_file(numbered, tmp_path, ray):
    assert write(tmp_path / "a", numbered, ray, broken=(2, 7)) == write(tmp_path / "b", numbered, broken=(2, 7))
    assert names(ray) == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9", "10", "11"]]
    assert ray.most == 2 and ray.down and (ray.options["address"], ray.options["num_cpus"]) == ("local", 2)


def test_a_worker_that_dies_is_begun_again(numbered, tmp_path, ray):
    whole = write(tmp_path / "b", numbered)
    assert write(tmp_path / "a", numbered, ray, deaths={5: RETRIES}) == whole and len(ray.begun) == 3


def test_of_a_file_that_kills_its_readers_only_the_deadly_episode_is_skipped(numbered, tmp_path, ray):
    write(tmp_path / "a", numbered, ray, deaths={5: 1000})
    with StoreWriter(tmp_path / "a", {}, 600) as writer:
        assert [name for name, _ in writer.skipped] == ["5"] and "died 4 times" in writer.skipped[0][1]
    assert [each for each in names(ray) if len(each) == 1] == [["4"], ["5"], ["6"], ["7"]]


def test_what_was_stopped_goes_on_and_reads_nothing_twice(numbered, tmp_path, ray):
    write(tmp_path / "a", numbered, ray, limit=6)
    write(tmp_path / "b", numbered, limit=6)
    ray.begun.clear()
    assert write(tmp_path / "a", numbered, ray) == write(tmp_path / "b", numbered)
    assert names(ray) == [["6", "7"], ["8", "9", "10", "11"]]


def test_a_cluster_that_is_there_is_joined(numbered, tmp_path, ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    write(tmp_path / "a", numbered, ray)
    assert ray.options["address"] == "somewhere:6379" and "num_cpus" not in ray.options


def test_the_episodes_of_files_can_travel(tmp_path):
    np.savez(tmp_path / "e.npz", image=np.zeros((3, 16, 16, 3), np.uint8), action=np.zeros((3, 2), np.float32))
    (episode,) = FORMATS["npz"](tmp_path, ConvertOptions(16)).episodes
    assert travelled(episode).read().frames.shape == (3, 16, 16, 3)


def test_a_missing_ray_is_one_sentence_before_the_work_begins(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    assert cli.run(["convert-data", "npz", str(tmp_path), str(tmp_path / "out"), "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'ivideogpt-jax[sweep]'" in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
