"""The published mixture: all sets, shares that add up, and what is missing by name."""

import pytest

from experiments.data import mixture
from experiments.data.mixture import DATA_SETS, NAMES, SOMETHING, find, of_catalogue, specs
from experiments.data.recording import DataError

SHARES = {
    SOMETHING: 15,
    "fractal20220817_data": 12.8,
    "bridge": 12.8,
    "bc_z": 12.8,
    "robo_net": 12.8,
    "kuka": 8.5,
    "language_table": 4.2,
    "stanford_mask_vit_converted_externally_to_rlds": 4.2,
}
"""Percent as the paper rounds them; the others have 0.5 each, D3Field 2.2 over four cameras."""


def test_there_are_35_sets_of_robots_and_one_of_people():
    robots = {data_set.source for data_set in DATA_SETS} - {SOMETHING}
    assert len(robots) == 35
    assert len(NAMES) == len(set(NAMES)) == 35 + 3 + 1


def test_weights_are_percent_as_published():
    assert sum(data_set.weight for data_set in DATA_SETS) == pytest.approx(100)
    for data_set in DATA_SETS:
        assert data_set.weight == pytest.approx(SHARES.get(data_set.name, 0.55), abs=0.06)
    cameras = [data_set for data_set in DATA_SETS if data_set.source == "uiuc_d3field"]
    assert [data_set.image_key for data_set in cameras] == ["image_1", "image_2", "image_3", "image_4"]
    assert sum(data_set.weight for data_set in cameras) == pytest.approx(2.2, abs=0.01)


def test_the_mixture_comes_from_folders_of_its_names_without_videos_for_the_transformer(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
    assert [spec.folder.name for spec in specs(tmp_path)] == list(NAMES)
    assert SOMETHING not in [spec.folder.name for spec in specs(tmp_path, videos=False)]
    (spec,) = specs(tmp_path, ["viola"])
    assert spec.step == 7


def test_every_missing_set_is_named(tmp_path):
    (tmp_path / "viola").mkdir()
    with pytest.raises(DataError, match="lacks toto, kuka: convert them"):
        specs(tmp_path, ["viola", "toto", "kuka"])


def test_a_wrong_name_brings_the_closest_ones():
    with pytest.raises(DataError, match="did you mean language_table"):
        find("languagetable")
    assert of_catalogue("uiuc_d3field").image_key == "image_1"
    assert of_catalogue("nothing") is None
    assert mixture.find("bridge").source == "bridge"
