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
