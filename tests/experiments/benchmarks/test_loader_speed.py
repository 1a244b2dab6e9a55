"""How fast segments come is told beside how fast an update needs them."""

import dataclasses

import pytest
from noise_data import write_set

from experiments.benchmarks import device_kinds, loader_speed
from experiments.benchmarks.estimate import SHARE, step_flops
from experiments.data.loader import DatasetSpec
from experiments.pretraining import presets


def test_rates_of_every_number_of_workers_and_what_one_device_would_need(tmp_path, monkeypatch):
    monkeypatch.setattr(loader_speed, "WORKERS", (0, 1))
    config = dataclasses.replace(presets.get("debug"), data=(DatasetSpec(write_set(tmp_path / "set")),))
    told = []
    measured = loader_speed.bench_loader(config, 1, told.append)
    assert [(progress.done, progress.total) for progress in told] == [(0, 2), (1, 2)]
    assert set(measured["segments_per_second"]) == {"0", "1"} and min(measured["segments_per_second"].values()) > 0
    seconds = step_flops(config, "transformer") / (device_kinds.get("h100").teraflops * 1e12 / 2 * SHARE)  # float32
    assert measured["needed_per_second"]["h100"] == pytest.approx(config.transformer.batch / seconds)
    text = loader_speed.as_text(measured)
    assert "0 workers " in text and "1 worker " in text
