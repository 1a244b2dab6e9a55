"""What can be typed for the data: folders with weights and step sizes, or the published mixture."""

import pytest
import tyro

from experiments.data.mixture import SOMETHING
from experiments.data.options import DataOptions
from experiments.data.recording import DataError
from experiments.errors import UsageError


def specs(*typed, videos=True):
    return tyro.cli(DataOptions, args=[str(word) for word in typed]).specs(videos)


def test_a_folder_brings_its_weight_and_its_step():
    plain, both, odd = specs("--data", "data/a", "data/b@step=3,weight=0.5", "data/me@home")
    assert (str(plain.folder), plain.weight, plain.step) == ("data/a", 1, 1)
    assert (str(both.folder), both.weight, both.step) == ("data/b", 0.5, 3)
    assert (str(odd.folder), odd.weight, odd.step) == ("data/me@home", 1, 1)


def test_the_mixture_brings_the_published_weights_and_steps_and_a_transformer_no_videos(tmp_path):
    for name in (SOMETHING, "bridge", "viola"):
        (tmp_path / name).mkdir()
    typed = ["--mixture", tmp_path, "--sets", SOMETHING, "bridge", "viola"]
    assert [(spec.weight, spec.step) for spec in specs(*typed)[:2]] == [(15, 1), (12.75, 2)]
    assert [spec.folder.name for spec in specs(*typed, videos=False)] == ["bridge", "viola"]
    with pytest.raises(DataError, match=r"lacks fractal20220817_data, bc_z"):
        specs("--mixture", tmp_path)
    with pytest.raises(DataError, match="did you mean viola"):
        specs("--mixture", tmp_path, "--sets", "violla")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "either --data FOLDER... or --mixture ROOT"),
        (["--data", "a", "--mixture", "b"], "and not both"),
        (["--data", "a", "--sets", "b"], "--sets names sets of --mixture"),
        (["--data", "a@step=x"], "'step=x' is neither step=N nor weight=W"),
        (["--data", "a@step=2,size=3"], "'size=3' is neither"),
        (["--data", "a@weight=0"], "a weight is positive"),
        (["--data", "a@step=0"], "a step at least 1"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(typed, said):
    with pytest.raises(UsageError, match=said):
        specs(*typed)
