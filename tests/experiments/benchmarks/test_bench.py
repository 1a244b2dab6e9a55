"""The benchmark measures what it says, and its count of arithmetic is right."""

import contextlib
import json

import jax
import jax.numpy as jnp
import pytest
from noise_data import write_set

import world_model
from experiments.benchmarks import bench, loader_speed
from experiments.benchmarks.flops import flops
from experiments.benchmarks.hot_paths import hot_path
from experiments.training import presets
from experiments.weights.bundled import load_model
from world_model import imagination

DEBUG = presets.get("debug")
UNITS = {
    "rollout": "frames",
    "train-transformer": "tokens",
    "train-tokenizer": "frames",
    "tokenize": "frames",
    "detokenize": "frames",
    "train-agent": "updates",
    "plan": "candidates",
    "plan-codes": "candidates",
}
SIZES = {"bench", "preset", "batch", "horizon", "precision", "backend", "device"}
COMPILED = {"compile_seconds", "peak_memory_bytes", "gflop"}
TIMED = {"seconds", "gflops", "peak_gflops", "share"}


def array(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_every_hot_path_runs_and_prints_one_json_object(monkeypatch, ivideogpt, name):
    # Tests keep what they compiled. Their compile_seconds mean nothing.
    monkeypatch.setattr(bench, "without_compilation_cache", contextlib.nullcontext)
    done = ivideogpt("bench", name, "--preset", "debug", "--batch", 2, "--repeats", 2, "--json")
    assert done.code == 0
    measured = json.loads(done.out)
    assert measured.keys() == SIZES | COMPILED | TIMED | {f"{UNITS[name]}_per_second"}
    assert (measured["preset"], measured["batch"]) == ("debug", 2)
    assert measured["horizon"] == {"train-agent": None, "plan": 6, "plan-codes": 6}.get(name, 4)
    assert 0 < measured["share"] < 1.5
    assert measured["share"] == pytest.approx(measured["gflop"] / measured["seconds"] / measured["peak_gflops"])


def test_a_model_by_name_is_timed_in_place_of_the_presets():
    bundled = load_model("laptop-metaworld").config
    path = hot_path("plan", DEBUG, "float32", 3, None, None, model=bundled)
    assert path.static[0].config == bundled != DEBUG.algorithm.world_model


@pytest.mark.slow
def test_compiling_only_times_nothing_and_is_told_in_a_line(ivideogpt):
    options = ("--preset", "debug", "--batch", "3", "--horizon", "2", "--max-batch", "2", "--precision", "bfloat16")
    done = ivideogpt("bench", "rollout", *options, "--compile-only")
    assert done.code == 0
    assert done.out.startswith("rollout of debug, batch 3, 2 future frames, bfloat16 on ")
    assert done.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rollout", "--preset", "debgu"), "unknown preset 'debgu': did you mean debug?"),
        (("rollout", "--preset", "debug", "--batch", "0"), "--batch 0: expected at least 1"),
        (("rollout", "--preset", "debug", "--repeats", "0"), "--repeats 0: expected at least 1"),
        (("rollout", "--preset", "debug", "--horizon", "9999"), "the longest horizon that fits is"),
        (("tokenize", "--preset", "debug", "--max-batch", "2"), "--max-batch is for rollouts"),
        (("train-agent", "--preset", "debug", "--horizon", "2"), "train-agent has no --horizon"),
        (
            ("train-agent", "--preset", "debug", "--model", "laptop-metaworld"),
            "--model is for the parts of a world model",
        ),
        (("loop", "--preset", "debug", "--model", "laptop-metaworld"), "--model is for the parts of a world model"),
        (("plan", "--preset", "debug", "--model", "laptop-metawold"), "laptop-metawold"),
        (("loop", "--preset", "debug", "--repeats", "0"), "--repeats 0: expected at least 1"),
        (("loader", "--preset", "debug", "--data", "nowhere", "--repeats", "0"), "--repeats 0: expected at least 1"),
        (("loader", "--preset", "debug"), "either --data FOLDER... or --mixture ROOT"),
        (("loader", "--preset", "debug", "--mixture", "nowhere", "--sets", "bridge"), "nowhere lacks bridge"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(ivideogpt, arguments, sentence):
    """Fault 14, among others: no repeat of the loop or of the loader was a traceback."""
    done = ivideogpt("bench", *arguments)
    assert done.code == 2
    assert sentence in done.sentence


def test_the_loader_reads_what_is_typed_behind_data(ivideogpt, tmp_path, monkeypatch):
    monkeypatch.setattr(loader_speed, "WORKERS", (0,))
    folders = [write_set(tmp_path / name) for name in ("one", "other")]
    done = ivideogpt("bench", "loader", "--preset", "debug", "--data", *folders, "--repeats", 1, "--json")
    assert done.code == 0
    assert json.loads(done.out)["data_sets"] == 2


def test_arithmetic_of_a_program_without_loops_is_what_the_compiler_counts():
    def program(x_bhwc, kernel, matrix):
        y = jax.lax.conv_general_dilated(
            x_bhwc, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )  # fmt: skip
        return jnp.einsum("bhwc,cd->bdhw", y, matrix)

    traced = jax.jit(program).trace(array(2, 9, 9, 16), array(3, 3, 16, 32), array(32, 48))
    by_hand = 2 * 2 * 16 * (9 * 16 * 32 + 32 * 48)
    assert flops(traced) == by_hand == traced.lower().compile().cost_analysis()["flops"]


def test_arithmetic_of_the_transformer_is_what_the_compiler_counts():
    config = DEBUG.algorithm.world_model
    wide = presets.LAPTOP_MODEL.transformer
    params = jax.eval_shape(lambda: world_model.modules.init_params(wide, config.layout, jax.random.key(0)))

    def program(params, embeddings_bld):
        return world_model.modules.merge_transformer(wide, config.layout, params)(embeddings_bld)

    traced = jax.jit(program).trace(params, array(2, 64, wide.width))
    # The compiler counts elementwise work, too.
    assert flops(traced) == pytest.approx(traced.lower().compile().cost_analysis()["flops"], rel=0.05)


def test_the_body_of_a_loop_counts_as_often_as_it_runs_and_what_is_not_used_never():
    def loop(x):
        unused = x @ x
        return jax.lax.scan(lambda y, _: (y @ y, None), x, None, length=7)[0], unused

    once = 2 * 8**3
    assert flops(jax.jit(lambda x: loop(x)[0]).trace(array(8, 8))) == 7 * once
    assert flops(jax.jit(loop).trace(array(8, 8))) == 8 * once
    gradient = jax.jit(jax.grad(lambda x: loop(x)[0].sum())).trace(array(8, 8))
    assert flops(gradient) == 3 * 7 * once


def test_a_condition_counts_as_the_way_that_is_asked_for():
    def program(x, busy):
        return jax.lax.cond(busy, lambda y: y @ y @ y, lambda y: y @ y, x)

    traced = jax.jit(program).trace(array(8, 8), array(dtype=bool))
    assert (flops(traced), flops(traced, min)) == (4 * 8**3, 2 * 8**3)


def test_arithmetic_in_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda y: y.sum() > 0, lambda y: y @ y, x)

    with pytest.raises(ValueError, match="unknown number of times"):
        flops(jax.jit(loop).trace(array(8, 8)))


def test_a_rollout_is_its_context_once_and_its_frames_one_by_one():
    """Nothing is computed again from frame to frame."""
    batch, horizon, config = 2, 3, DEBUG.algorithm.world_model
    path = hot_path("rollout", DEBUG, "float32", batch, horizon, None)
    params, frames, actions, key = jax.eval_shape(path.arguments, jax.random.key(0))
    context = imagination.reset.trace(config, params, frames, horizon)
    actions_ba = jax.eval_shape(lambda a: a[:, 0], actions)
    frame = imagination.step.trace(config, params, context.out_info, actions_ba, key, 1.0, 100)
    assert flops(path.trace()) == flops(context) + horizon * flops(frame)


@pytest.mark.slow
def test_a_batch_in_pieces_is_the_same_arithmetic_in_less_memory():
    whole, pieces = (hot_path("rollout", DEBUG, "float32", 4, 2, max_batch).trace() for max_batch in (None, 1))
    assert flops(whole) == flops(pieces)
    temporary = [traced.lower().compile().memory_analysis().temp_size_in_bytes for traced in (whole, pieces)]
    assert temporary[1] < temporary[0]


def test_compile_time_is_not_that_of_a_cache_and_the_cache_is_there_again_afterwards():
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache
    with bench.without_compilation_cache():
        assert not jax.config.jax_enable_compilation_cache
    assert (jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache) == before
