import logging
import pathlib
import shutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.runs.checkpoints import CheckpointError, Checkpoints


class Learner(typing.NamedTuple):
    params: dict
    optimizer: optax.OptState
    key: jax.Array
    nothing: None
    empty: tuple


def learner(seed: int = 0, width: int = 3) -> Learner:
    weights = jax.random.normal(jax.random.key(seed), (2, width))
    params = {"layer/one": {"w": weights, "b": jnp.zeros(width, jnp.bfloat16)}, "scale.x": jnp.float32(seed)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)).init(params)
    return Learner(params, optimizer, jax.random.key(seed + 1), None, ())


def assert_same(read, written):
    assert jax.tree.structure(read) == jax.tree.structure(written)
    for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(written), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_state_comes_back_bit_for_bit_with_its_structure_dtypes_and_random_key(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, learner(3), {"episodes": 4, "rng": {"state": 2**127}})
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(jax.eval_shape(learner))
        assert restored.step == 7 and restored.extra == {"episodes": 4, "rng": {"state": 2**127}}
        assert_same(restored.state, learner(3))
        assert_same(checkpoints.restore(learner(9)).state, learner(3))
    assert jax.random.uniform(restored.state.key) == jax.random.uniform(learner(3).key)


def test_a_numpy_leaf_keeps_its_64_bits(tmp_path):
    state = {"clock": np.array([2**40 + 1], np.int64), "jax": jnp.arange(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state, {})
        checkpoints.wait()
        read = checkpoints.restore(state).state
    assert isinstance(read["clock"], np.ndarray) and isinstance(read["jax"], jax.Array)
    assert_same(read, state)


def test_a_state_donated_right_after_saving_is_saved_as_it_was(tmp_path):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = {"w": jnp.zeros((512, 1024)), "host": np.zeros(1024)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        state["host"] += 1
        moved = {"w": state["w"]}
        for _ in range(20):
            moved = step(moved)
        jax.block_until_ready(moved)
        checkpoints.wait()
        read = checkpoints.restore({"w": moved["w"], "host": state["host"]}).state
    assert not np.asarray(read["w"]).any() and not read["host"].any()


def test_what_a_kill_left_of_a_save_is_removed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"x": jnp.zeros(2)}, {})
    left = tmp_path / "5.orbax-checkpoint-tmp"
    (left / "state").mkdir(parents=True)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == (3,) and left.exists()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == (3,) and not left.exists()


def test_the_newest_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, score in enumerate([None, 0.2, 0.8, 0.8, None, 0.1, None]):
            checkpoints.save(step, {"step": jnp.int32(step)}, {}, score)
        checkpoints.wait()
        assert checkpoints.steps() == (3, 5, 6) and checkpoints.best_step() == 3
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.best_step() == 3
        assert checkpoints.restore({"step": jnp.int32(0)}, step=3).state["step"] == 3
        checkpoints.save(7, {"step": jnp.int32(7)}, {}, 0.9)
        checkpoints.save(8, {"step": jnp.int32(8)}, {}, 0.0)
        checkpoints.wait()
        assert checkpoints.steps() == (7, 8) and checkpoints.best_step() == 7


def test_an_empty_folder_restores_nothing(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(learner()) is None and checkpoints.best_step() is None
        with pytest.raises(CheckpointError, match="holds no checkpoint 5"):
            checkpoints.restore(learner(), step=5)


def test_a_half_written_checkpoint_is_never_loaded(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(1), {})
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "1", tmp_path / "3")
    shutil.rmtree(tmp_path / "3" / "state")
    for read_only in (True, False):
        with Checkpoints(tmp_path, read_only=read_only) as checkpoints:
            assert checkpoints.restore(jax.eval_shape(learner)).step == 1
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, learner(3), {})
        checkpoints.wait()
        assert_same(checkpoints.restore(jax.eval_shape(learner)).state, learner(3))


def test_a_reader_leaves_a_checkpoint_that_is_being_written_alone(tmp_path):
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(1), {})
    shutil.copytree(tmp_path / "1", unfinished)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == (1,) and checkpoints.best_step() is None
    assert unfinished.exists()


def test_a_checkpoint_of_another_state_is_refused_by_the_name_of_the_leaf(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(width=3), {})
        checkpoints.wait()
        with pytest.raises(
            CheckpointError, match=r"1 holds another state: .*\['b'\] bfloat16\[3\] there, .*\[4\] expected"
        ):
            checkpoints.restore(learner(width=4))
        with pytest.raises(CheckpointError, match="expected"):
            checkpoints.restore(learner()._replace(empty=(jnp.zeros(1),)))
        with pytest.raises(TypeError, match=r"arrays only: \['a'\] is a float"):
            checkpoints.save(2, {"a": 1.0}, {})


def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(), {})
    for path in (tmp_path / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"1 is damaged .*delete it") as error,
    ):
        checkpoints.restore(learner())
    assert "\n" not in str(error.value)


def test_saving_and_restoring_print_nothing(tmp_path, capfd, caplog, recwarn):
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(), {})
        checkpoints.wait()
        checkpoints.restore(jax.eval_shape(learner))
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert [str(w.message) for w in recwarn] == []


def test_files_lie_where_the_folder_says(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(12, {"a": jnp.ones(1)}, {})
    assert pathlib.Path(tmp_path / "checkpoints" / "12").is_dir()


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, learner(), {})
        checkpoints.wait()
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
        said = "no space left on the disk for checkpoint 2, which needs 4 MB where 1 are free"
        with pytest.raises(CheckpointError, match=said):
            checkpoints.save(2, learner(), {})
        assert checkpoints.steps() == (1,)
        assert_same(checkpoints.restore(learner(1)).state, learner())


def flip(path: pathlib.Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def states(step: int) -> Learner:
    return learner(step, width=300)


def files_of(place: pathlib.Path) -> list[pathlib.Path]:
    """What a checkpoint's state and its neighbours are read from."""
    return [path for path in sorted(place.rglob("*")) if path.is_file() and path.stat().st_size]


def test_no_flipped_bit_gives_another_state(tmp_path):
    """Fault 8: a flipped bit in an array was taken, and the run went on with other weights."""
    with Checkpoints(tmp_path / "whole") as checkpoints:
        checkpoints.save(1, states(1), {"counts": [1, 2]})
    noticed = 0
    for number, path in enumerate(files_of(tmp_path / "whole" / "1")):
        for share in (0.2, 0.5, 0.9):
            folder = tmp_path / f"{number}-{share}"
            shutil.copytree(tmp_path / "whole", folder)
            flip(folder / path.relative_to(tmp_path / "whole"), int(path.stat().st_size * share))
            try:
                with Checkpoints(folder) as checkpoints:
                    restored = checkpoints.restore(jax.eval_shape(lambda: states(0)))
            except CheckpointError as error:
                assert "\n" not in str(error) and len(str(error)) < 400
                noticed += 1
            else:  # what nobody reads, or what does not matter
                assert restored is None or restored.extra == {"counts": [1, 2]}
                if restored is not None:
                    assert_same(restored.state, states(1))
    assert noticed > 10


def damage_arrays(place: pathlib.Path) -> None:
    largest = max(files_of(place / "state"), key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2)


def newest(checkpoints: Checkpoints, **options):
    said = []
    restored = checkpoints.restore_newest(lambda step: jax.eval_shape(lambda: states(0)), said.append, **options)
    return restored, said


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    """Fault 8."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, states(step), {})
    damage_arrays(folder / "2")
    with Checkpoints(folder) as checkpoints:
        restored, said = newest(checkpoints)
        assert restored is not None and restored.step == 1
        assert_same(restored.state, states(1))
        (sentence,) = said
        assert sentence.startswith("checkpoint 2 is damaged (the checksum of .params['layer/one']['w'] differs)")
        assert sentence.endswith("checkpoints.damaged/2")
        checkpoints.save(2, states(2), {})  # the run comes there again
        checkpoints.wait()
        restored, said = newest(checkpoints)
        assert restored is not None and (restored.step, said) == (2, [])


def test_damage_that_every_array_meets_is_told_once(tmp_path, caplog):
    """Fault 8: where several arrays could not be read, asyncio told the others' errors in pages, when they were
    collected."""
    Checkpoints(tmp_path).close()
    logger = logging.getLogger("asyncio")
    logger.error("Task exception was never retrieved\nfuture: <Task coro=<read() at orbax/checkpoint/x.py>")
    logger.error("somebody else's")
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == ["somebody else's"]


@pytest.mark.parametrize("lost", ["damaged", "deleted", "deleted with their folder"])
def test_a_run_that_has_lost_all_its_checkpoints_begins_anew_only_where_that_is_typed(tmp_path, lost):
    """Fault 8: it began at zero and rewrote metrics.jsonl, without a word."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        assert newest(checkpoints) == (None, [])  # a new run
        for step in (1, 2):
            checkpoints.save(step, states(step), {})
    for step in (1, 2):
        if lost == "damaged":
            damage_arrays(folder / str(step))
        else:
            shutil.rmtree(folder / str(step))
    if lost == "deleted with their folder":
        shutil.rmtree(folder)
    for _ in range(2):
        with Checkpoints(folder) as checkpoints:
            with pytest.raises(CheckpointError, match=r"held checkpoints up to \d and has none .* --restart$"):
                newest(checkpoints)
    with Checkpoints(folder) as checkpoints:
        assert newest(checkpoints, restart=True)[0] is None
    with Checkpoints(folder) as checkpoints:
        assert newest(checkpoints) == (None, [])  # and from then on it is a new run


def test_a_checkpoint_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.runs.checkpoints._seal", lambda table: {"leaves": table["leaves"]})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, states(1), {"counts": 1})
        checkpoints.wait()
        assert_same(checkpoints.restore(states(0)).state, states(1))


@pytest.mark.parametrize("content", [b"", b'{"sc', b"[]", b"\xff\xfe", b'{"score": 1%s}' % (b"0" * 400)])
def test_a_score_that_cannot_be_read_is_unknown_and_the_checkpoint_stays(tmp_path, content):
    """Fault 8: it ended in a JSONDecodeError."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, states(1), {}, 0.5)
    (tmp_path / "1" / "metrics" / "metrics").write_bytes(content)
    with pytest.raises(CheckpointError, match="metrics is damaged"):
        Checkpoints(tmp_path, read_only=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step() is None
        assert_same(checkpoints.restore(states(0)).state, states(1))


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"\xff\xfe",
        b'{"init_timestamp_nsecs": {}}',
        b'{"commit_timestamp_nsecs": 1%s}' % (b"0" * 40),
        b'{"metrics": 3}',
        b'{"item_handlers": []}',
    ],
)
def test_a_description_that_cannot_be_read_is_left_empty_and_the_checkpoint_stays(tmp_path, content):
    """It ended in an error of orbax's own."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, states(1), {}, 0.5)
    (tmp_path / "1" / "_CHECKPOINT_METADATA").write_bytes(content)
    with pytest.raises(CheckpointError, match="_CHECKPOINT_METADATA is damaged"):
        Checkpoints(tmp_path, read_only=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step() == 1
        assert_same(checkpoints.restore(states(0)).state, states(1))
