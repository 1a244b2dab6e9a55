"""Learning from tokens that were made before: the same as from the frames, however often making them was stopped."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

import world_model
from experiments.data.loader import DatasetSpec
from experiments.data.recording import DataError
from experiments.data.tokens import TokenFolder, TokenLoader, TokenSegments
from experiments.errors import UsageError
from experiments.pretraining import presets, run, tokenizing
from experiments.pretraining.config import Stage
from experiments.runs.metrics_log import read_metrics


@pytest.fixture(scope="module")
def config(data):
    """Of a transformer alone; the other tests of this folder share its programs."""
    settings = dataclasses.replace(presets.get("debug"), data=(DatasetSpec(data),), ema_decay=0.5, validation_share=0.4)
    return dataclasses.replace(settings, tokenizer=Stage(0, 2))


@pytest.fixture(scope="module")
def params(config):
    return world_model.init(config.world_model, jax.random.key(0)).params


def numbered(first, count):
    """Segments whose every number says which they are."""
    number = np.arange(first, first + count)
    return TokenSegments(
        np.tile(number[:, None], (1, 5)), np.tile(number[:, None, None], (1, 3, 2)), np.tile(number[:, None], 3)
    )


@pytest.fixture
def kept(tmp_path):
    folder = TokenFolder(tmp_path / "tokens", {"a": 1})
    with folder.growing():
        folder.append(numbered(0, 3))
        folder.append(numbered(3, 4))
    return folder


def losses(folder):
    return [line["transformer/loss"] for line in read_metrics(folder / "metrics.jsonl") if "transformer/loss" in line]


@pytest.mark.slow
def test_a_run_from_tokens_has_the_losses_of_one_from_frames(config, params, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.pretraining.loop.METRICS_EVERY", 1)
    run.pretrain(config, params, tmp_path / "frames", "")
    from_tokens = dataclasses.replace(config, tokens=str(tmp_path / "tokens"))
    run.pretrain(from_tokens, params, tmp_path / "first", "")
    np.testing.assert_allclose(losses(tmp_path / "first"), losses(tmp_path / "frames"), rtol=1e-4)
    monkeypatch.setattr(world_model, "tokenize", None)  # nothing is tokenized again
    monkeypatch.setattr("experiments.pretraining.loop.Trainer.validated", lambda self, parts: None)
    run.pretrain(from_tokens, params, tmp_path / "second", "")
    assert losses(tmp_path / "second") == losses(tmp_path / "first")


def test_segments_come_in_order_again_and_again_to_any_number_of_hosts(kept):
    batches = list(itertools.islice(TokenLoader(kept, 6, 4), 3))
    assert [batch.tokens_bl[:, 0].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    for batch in batches:
        assert (batch.tokens_bl.dtype, batch.actions_bta.dtype, batch.rewards_bt.dtype) == (
            np.int32,
            np.float32,
            np.float32,
        )
        np.testing.assert_array_equal(batch.tokens_bl[:, :2], batch.actions_bta[:, 0])
        np.testing.assert_array_equal(batch.tokens_bl[:, :3], batch.rewards_bt)
    host = next(TokenLoader(kept, 6, 4, host=1, hosts=2))
    np.testing.assert_array_equal(host.tokens_bl, batches[0].tokens_bl[1::2])
    loader = TokenLoader(kept, 6, 4)
    loader.restore({**TokenLoader(kept, 6, 4).state(), "batches": 2})
    np.testing.assert_array_equal(next(loader).tokens_bl, batches[2].tokens_bl)


def test_making_them_goes_on_where_it_was_stopped(config, params, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "FILE", 2 * tokenizing.BATCH)
    wanted = 5 * tokenizing.BATCH - 1

    def made(folder, stop):
        loader = run.Trainer(config, params)._loader(tokenizing.BATCH)
        opened = tokenizing.open_token_folder(folder, loader, config.world_model, params)
        steps = tokenizing.fill(opened, wanted, loader, config.world_model, params)
        return opened, [progress.done // tokenizing.BATCH for progress in itertools.islice(steps, stop)]

    whole, all_steps = made(tmp_path / "whole", None)
    assert (all_steps, len(whole)) == ([1, 2, 3, 4, 5], 5 * tokenizing.BATCH)
    _, first = made(tmp_path / "stopped", 4)  # the second file is not there yet
    _, others = made(tmp_path / "stopped", None)
    assert (first, others) == ([1, 2, 3, 4], [3, 4, 5])
    for name in ("00000", "00001", "00002"):
        assert (tmp_path / f"whole/{name}.safetensors").read_bytes() == (
            tmp_path / f"stopped/{name}.safetensors"
        ).read_bytes()
    assert made(tmp_path / "whole", None)[1] == []


def test_what_is_damaged_or_belongs_to_others_is_one_sentence(kept, tmp_path):
    with pytest.raises(DataError, match=r"other segments \(a was 1, now 2\): choose another folder"):
        TokenFolder(kept.folder, {"a": 2})
    with kept.growing(), pytest.raises(DataError, match="another process is writing"), kept.growing():
        pass
    path = kept.folder / "00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = TokenFolder(kept.folder, {"a": 1})
    assert again[2][0].tolist() == [2] * 5
    with pytest.raises(DataError, match=r"00001.safetensors is damaged \(its checksum differs\)"):
        again[3]
    path.write_bytes(content[:20])
    with pytest.raises(DataError, match=r"00001\.safetensors is damaged"):
        TokenFolder(kept.folder, {"a": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no tokens"):
        TokenFolder(tmp_path / "mine", {})


def test_no_flipped_bit_of_kept_tokens_is_taken(kept):
    """Fault 8."""
    path, refused = kept.folder / "00001.safetensors", 0
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 5):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            again = TokenFolder(kept.folder, {"a": 1})
            read = [again[index] for index in range(len(again))]
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        else:  # a space of the header, or what nobody reads of it
            assert [tokens.tolist() for tokens, *_ in read] == [[number] * 5 for number in range(7)]
    assert refused > 100


def test_settings_that_do_not_fit_are_refused(config):
    with pytest.raises(UsageError, match="--tokens is for training a transformer"):
        run.check_data(dataclasses.replace(config, tokens="somewhere", transformer=Stage(0, 2)))
    with pytest.raises(UsageError, match="--token-segments is a positive number"):
        run.check_data(dataclasses.replace(config, token_segments=5))
