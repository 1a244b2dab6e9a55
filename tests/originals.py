"""Small files of every kind that the project reads, each with the reader that a command has for it.

`tests/mutations.py` damages them. A reader is given a folder and returns all that it took from it; what it refuses, it
refuses with a UserError. `read` may write into the folder that it is given.
"""

from __future__ import annotations

import dataclasses
import fractions
import io
import json
import pathlib
import struct
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import array_record.python.array_record_data_source  # noqa: F401 (imported once, before the readers are forked)
import av
import h5py
import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from noise_data import write_set
from PIL import Image
from safetensors.numpy import load_file
from small import small_model

import experiments.data.convert_command
import experiments.reports.page
import experiments.weights.import_weights  # noqa: F401 (imported once, before the readers are forked)
from agent.events import Clock
from agent.mbpo.imagined import ImaginedReplay
from agent.replay import Episode, load_episode, save_episode
from experiments import cli
from experiments.data.converters.tfrecord import masked_crc
from experiments.data.store import Store
from experiments.data.tokens import TokenFolder, TokenSegments
from experiments.evaluation.segments import read_learned
from experiments.reports import tables
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics_log import Metrics, read_metrics
from experiments.runs.run_folder import RunFolder
from experiments.weights.bundled import load_model
from tokenizer import TokenizerConfig, abstract_params
from tokenizer.errors import UserError
from world_model import TransformerConfig, WorldModelConfig, WorldModelParams, folder, modules


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of file."""

    make: Callable[[pathlib.Path], None]
    """Write an original into a new folder."""
    read: Callable[[pathlib.Path], Any]
    """All that the project takes from such a folder. Raises UserError for what it refuses."""
    checksummed: bool
    """Whether a change must be noticed: of our own files, but for those that people may edit."""
    damaged: tuple[str, ...] = ("**/*",)
    """Which files of the folder are damaged, as patterns."""


class RefusedError(UserError):
    """A command said in a sentence that it cannot do what it was asked for."""


def _typed(*words: object) -> None:
    """Do what a command does, in this process."""
    if code := cli.run([str(word) for word in words]):
        raise RefusedError(f"exit code {code}")


# --- our own files ----------------------------------------------------------------------------------------------------


def _episode(seed: int = 0, length: int = 6, side: int = 16) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        frames=rng.integers(256, size=(length + 1, side, side, 3), dtype=np.uint8),
        actions=rng.uniform(-1, 1, (length, 4)).astype(np.float32),
        rewards=rng.uniform(size=length).astype(np.float32),
        successes=np.arange(length) == length - 1,
    )


def _write_episode(place: pathlib.Path) -> None:
    save_episode(place / "000000.npz", _episode())


def _imagined(place: pathlib.Path) -> ImaginedReplay:
    return ImaginedReplay(place, capacity=2, stack=3, steps=3, discount=0.99)


def _write_imagined(place: pathlib.Path) -> None:
    rng, replay = np.random.default_rng(0), _imagined(place)
    for index in range(2):
        contexts, frames = (rng.integers(256, size=(2, n, 8, 8, 3), dtype=np.uint8) for n in (3, 4))
        actions, rewards = (rng.uniform(size=size).astype(np.float32) for size in ((2, 4, 3), (2, 4)))
        replay.add(index, contexts, frames, actions, rewards)


def _read_imagined(place: pathlib.Path) -> list[dict[str, np.ndarray]]:
    replay = _imagined(place)
    replay.reload(2)
    return replay.rollouts


def _state() -> dict[str, Any]:
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    return {"weights": jax.numpy.asarray(weights), "step": np.array([2**40], np.int64), "key": jax.random.key(3)}


def _write_checkpoint(place: pathlib.Path) -> None:
    with Checkpoints(place / "checkpoints") as checkpoints:
        checkpoints.save(7, _state(), {"episodes": 4, "rng": {"state": 2**127}}, score=0.5)


def _read_checkpoint(place: pathlib.Path) -> Any:
    with Checkpoints(place / "checkpoints") as checkpoints:
        restored = checkpoints.restore_newest(lambda step: _state(), print)
    if restored is None:
        return None
    state = restored.state | {"key": jax.random.key_data(restored.state["key"])}
    return restored.step, {name: np.asarray(leaf) for name, leaf in state.items()}, restored.extra


def _write_model(place: pathlib.Path) -> None:
    small_model().save(place)


def _read_model(place: pathlib.Path) -> Any:
    model = load_model(str(place))
    return model.config, [np.asarray(leaf) for leaf in jax.tree.leaves(model.params)]


def _write_data_set(place: pathlib.Path) -> None:
    write_set(place / "set", recordings=3)


def _read_data_set(place: pathlib.Path) -> Any:
    """What is learned from."""
    store = Store(place / "set")
    return (
        sorted(store.held_out),
        store.names,
        store.lengths,
        store.signals,
        [store.read(index) for index in range(len(store))],
    )


DECIDED_BY = {"tokenizer": "small", "length": 5, "seed": 0}


def _write_tokens(place: pathlib.Path) -> None:
    rng, kept = np.random.default_rng(0), TokenFolder(place, DECIDED_BY)
    with kept.growing():
        for count in (3, 2):
            tokens = rng.integers(50, size=(count, 30))
            kept.append(TokenSegments(tokens, rng.uniform(size=(count, 5, 4)), rng.uniform(size=(count, 5))))


def _read_tokens(place: pathlib.Path) -> Any:
    kept = TokenFolder(place, DECIDED_BY)
    return [kept[index] for index in range(len(kept))]


# --- what a run says of itself, and the pages and tables made of it ---------------------------------------------------


def _write_agents_run(place: pathlib.Path) -> None:
    """A run of an agent, evaluated twice."""
    run = RunFolder(place / "run")
    config = {"preset": "debug", "task": "reach", "algorithm": "mbpo", "seed": 3, "loop": {"world_model": "small"}}
    with run.claim(config, "ivideogpt train --task reach", settings={"mbpo.model.horizon": 3}):
        with Metrics(run.metrics) as metrics:
            for index in range(2):
                clock = Clock(100 * index, 200 * index)
                metrics.write(clock, {"tokenizer/loss": 0.5, "agent/critic_loss": 1.5, "episode/return": 10.0})
                evaluated = {"eval/success": 0.5 * index, "eval/return": 50.0, "eval/episodes": 20}
                metrics.write(clock, evaluated | _model_line())


def _model_line() -> dict[str, Any]:
    errors = {"imagined": 0.001, "copy_last": 0.002, "shuffled_actions": 0.0015}
    line: dict[str, Any] = {f"model/mse_{name}": error for name, error in errors.items()}
    line |= {f"model/mse_{name}_by_horizon": [error] * 3 for name, error in errors.items()}
    return line | {f"model/moving_mse_{name}": 10 * error for name, error in errors.items()}


def _write_models_run(place: pathlib.Path) -> None:
    """A run that fine-tuned a world model, which was evaluated in the end."""
    run = RunFolder(place / "run")
    config = {"preset": "debug", "data": [{"folder": "data/reach", "weight": 1.0, "step": 1}], "source": "model"}
    config |= {"kind": "finetune", "trajectories": 5, "seed": 4, "validation_share": 0.1}
    with run.claim(config | {"tokenizer": {"steps": 1}, "transformer": {"steps": 2}}, "ivideogpt finetune model"):
        with Metrics(run.metrics) as metrics:
            for update in (1, 2):
                learned = {"validation/tokenizer/future_mse": 0.1, "validation/transformer/token_accuracy": 0.25}
                metrics.write(Clock(), {"updates": update} | learned | _model_line())
    found = {"best_of_2": 0.002, "mean": 0.003, "greedy": 0.003, "copy_last": 0.004}
    found = {"protocol": {"samples": 2}, "metrics": {"mse": found, "psnr": {name: 25.0 for name in found}}}
    (run.path / "evaluation").mkdir()
    (run.path / "evaluation" / "evaluation.json").write_text(json.dumps(found, indent=1))


def _read_run(place: pathlib.Path) -> Any:
    run, table = RunFolder(place / "run"), place / "table.csv"
    _typed("report", run.path, "--out", place / "page.html", "--csv", table)
    return run.read_current(), read_metrics(run.metrics), table.read_bytes()


def _tabulate(make: Callable[[pathlib.Path], None]) -> Callable[[pathlib.Path], None]:
    def write(place: pathlib.Path) -> None:
        make(place / "made")
        (place / "table.csv").write_text(tables.as_csv([RunFolder(place / "made" / "run")]))

    return write


def _read_table(command: str) -> Callable[[pathlib.Path], bytes]:
    def read(place: pathlib.Path) -> bytes:
        _typed(command, place / "table.csv", "--out", place / "picture.png")
        return (place / "picture.png").read_bytes()

    return read


# --- what others wrote ------------------------------------------------------------------------------------------------


def _convert(form: str, *words: str) -> Callable[[pathlib.Path], Any]:
    """A reader by `ivideogpt convert-data`."""

    def read(place: pathlib.Path) -> Any:
        _typed("convert-data", form, place / "source", place / "converted", *words)
        store = Store(place / "converted")
        return store.names, store.skipped, [store.read(index) for index in range(len(store))]

    return read


def _frames(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Of even grey, each lighter than the one before."""
    return np.repeat(8 * np.arange(count, dtype=np.uint8), height * width * 3).reshape(count, height, width, 3)


def png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _film(count: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as film:
        stream: Any = film.add_stream("libx264", rate=fractions.Fraction(10), options={"g": "8"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in _frames(count):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())
    return buffer.getvalue()


def _write(path: pathlib.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message: its number and kind, the length as a varint, the bytes."""
    length, size = b"", len(content)
    while size >= 128:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([8 * number + 2]) + length + bytes([size]) + content


def example(features: Mapping[str, list[bytes] | np.ndarray]) -> bytes:
    """A tf.train.Example of bytes and float32 numbers."""
    entries = b""
    for name, values in features.items():
        if isinstance(values, list):
            feature = _field(1, b"".join(_field(1, value) for value in values))
        else:
            feature = _field(2, _field(1, values.astype("<f4").tobytes()))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def tfrecord(records: Iterable[bytes]) -> bytes:
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, struct.pack("<I", masked_crc(length)), record, struct.pack("<I", masked_crc(record))]
    return b"".join(parts)


def _write_rlds(place: pathlib.Path) -> None:
    pictures, actions = [png(frame) for frame in _frames(4)], np.arange(12) / 12
    record = example({"steps/observation/image": pictures, "steps/action": actions, "steps/reward": np.arange(4)})
    _write(place / "source" / "1.0.0" / "toy-train.tfrecord-00000-of-00001", tfrecord([record] * 3))


def _write_bair(place: pathlib.Path) -> None:
    features: dict[str, Any] = {}
    for step, frame in enumerate(_frames(3, 64, 64)):
        features |= {f"{step}/image_aux1/encoded": [frame.tobytes()], f"{step}/action": np.full(4, step)}
    _write(place / "source" / "traj_0_to_255.tfrecords", tfrecord([example(features)] * 2))


def _write_vp2(place: pathlib.Path) -> None:
    _write(place / "source" / "demos.hdf5", b"")
    with h5py.File(place / "source" / "demos.hdf5", "w") as file:
        for number in range(3):
            group = file.create_group(f"data/demo_{number}")
            group.create_dataset("obs/agentview_shift_2_image", data=np.full((4, 8, 8, 3), number, np.uint8))
            group.create_dataset("actions", data=np.full((4, 4), number, np.float64))


def _write_robonet(place: pathlib.Path) -> None:
    _write(place / "source" / "one.hdf5", b"")
    with h5py.File(place / "source" / "one.hdf5", "w") as file:
        for number, frame in enumerate(_frames(4)):
            picture = np.frombuffer(png(frame), np.uint8)
            stored = file.create_dataset(f"env/cam0_video/frame{number}", data=picture)
            stored.attrs["image_format"] = "RGB"
        file["env/state"] = np.repeat(np.float32([-1, -1, 1, 1])[:, None], 5, 1)
        file["env/high_bound"], file["env/low_bound"] = np.ones((1, 5)), -np.ones((1, 5))
        file["policy/actions"] = np.repeat(np.arange(3, dtype=np.float32)[:, None], 4, 1)
        file.create_group("metadata").attrs["primitives"] = "autograsp"


CAMERA = "observation.images.top"


def _write_lerobot(place: pathlib.Path, version: str, data: str, video: str, length: int) -> None:
    """What both versions have: a description, a table of one episode and its video."""
    kinds = {CAMERA: "video", "action": "float32", "next.reward": "float32"}
    info = {"codebase_version": version, "total_episodes": 1, "chunks_size": 1000, "data_path": data}
    info |= {"video_path": video, "features": {name: {"dtype": dtype} for name, dtype in kinds.items()}}
    _write(place / "meta" / "info.json", json.dumps(info).encode())
    numbers = {"episode_index": [0] * length, "frame_index": list(range(length))}
    table = pa.table(
        {"action": [[0.5, t] for t in range(length)], "next.reward": [0.1 * t for t in range(length)]} | numbers
    )
    values = {"episode_chunk": 0, "episode_index": 0, "chunk_index": 0, "file_index": 0, "video_key": CAMERA}
    _write(place / video.format(**values), _film(length))
    path = place / data.format(**values)
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)


def _write_lerobot_2(place: pathlib.Path) -> None:
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    _write_lerobot(place / "source", "v2.1", data, video, 6)
    _write(place / "source" / "meta" / "episodes.jsonl", b'{"episode_index": 0, "tasks": [], "length": 6}\n')


def _write_lerobot_3(place: pathlib.Path) -> None:
    data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    _write_lerobot(place / "source", "v3.0", data, video, 6)
    row = {"episode_index": 0, "length": 6, "data/chunk_index": 0, "data/file_index": 0}
    row |= {f"videos/{CAMERA}/{name}": 0 for name in ("chunk_index", "file_index")}
    row[f"videos/{CAMERA}/from_timestamp"] = 0.0
    path = place / "source" / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)


def _write_arrays(place: pathlib.Path) -> None:
    (place / "source").mkdir(parents=True)
    np.savez(place / "source" / "0.npz", image=_frames(4), action=np.arange(12).reshape(4, 3) / 12)
    save_episode(place / "source" / "1.npz", _episode())


def _write_videos(place: pathlib.Path) -> None:
    for number in range(2):
        _write(place / "source" / f"{number}.mp4", _film(6))


def _write_published(place: pathlib.Path) -> None:
    tokenizer = TokenizerConfig(
        resolution=32, channels=(8, 16), norm_groups=4, layers_per_block=1, latent_channels=6, context_codes=20,
        future_codes=30, max_attention_resolution=8, context_frames=1,
    )  # fmt: skip
    config = WorldModelConfig(tokenizer, TransformerConfig(layers=1, width=16, heads=2, feed_forward=24))
    shapes = WorldModelParams(abstract_params(tokenizer), modules.abstract(config.transformer, config.layout))
    rng = np.random.default_rng(0)
    filled = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    folder.save(place / "source", config, filled)
    (place / "source" / folder.CONFIG).unlink()


def _read_published(place: pathlib.Path) -> Any:
    _typed("import-weights", place / "source", place / "imported")
    files = (folder.TOKENIZER, folder.TRANSFORMER)
    return [load_file(place / "imported" / name) for name in files], (place / "imported" / folder.CONFIG).read_bytes()


# ----------------------------------------------------------------------------------------------------------------------

WEIGHTS = ("**/*.safetensors",)
METRICS, CONFIG, EVALUATION, TABLE = (
    ("run/metrics.jsonl",),
    ("run/config.yaml",),
    ("**/evaluation.json",),
    ("table.csv",),
)

KINDS: Mapping[str, Kind] = types.MappingProxyType(
    {
        "episode": Kind(_write_episode, lambda place: load_episode(place / "000000.npz"), True),
        "imagined": Kind(_write_imagined, _read_imagined, True),
        "checkpoint": Kind(_write_checkpoint, _read_checkpoint, True),
        "model-weights": Kind(_write_model, _read_model, True, WEIGHTS),
        "model-settings": Kind(_write_model, _read_model, False, (folder.CONFIG,)),
        "data-set": Kind(_write_data_set, _read_data_set, True),
        "tokens": Kind(_write_tokens, _read_tokens, True),
        "agents-metrics": Kind(_write_agents_run, _read_run, False, METRICS),
        "agents-config": Kind(_write_agents_run, _read_run, False, CONFIG),
        "models-metrics": Kind(_write_models_run, _read_run, False, METRICS),
        "models-config": Kind(_write_models_run, _read_run, False, CONFIG),
        "learned": Kind(_write_models_run, lambda place: read_learned(place / "run"), False, CONFIG),
        "evaluation": Kind(_write_models_run, _read_run, False, EVALUATION),
        "agents-table": Kind(_tabulate(_write_agents_run), _read_table("curves"), False, TABLE),
        "models-table": Kind(_tabulate(_write_models_run), _read_table("adaptation"), False, TABLE),
        "rlds": Kind(_write_rlds, _convert("rlds"), False),
        "bair": Kind(_write_bair, _convert("bair"), False),
        "vp2": Kind(_write_vp2, _convert("vp2"), False),
        "robonet": Kind(_write_robonet, _convert("robonet"), False),
        "lerobot-2": Kind(_write_lerobot_2, _convert("lerobot"), False),
        "lerobot-3": Kind(_write_lerobot_3, _convert("lerobot"), False),
        "npz": Kind(_write_arrays, _convert("npz"), False),
        "videos": Kind(_write_videos, _convert("videos"), False),
        "published": Kind(_write_published, _read_published, False, (*WEIGHTS, "**/config.json")),
    }
)
