"""Where weights are looked for, what a saved model says of itself, and how it gets to the hub (without a network)."""

import pathlib
import shutil
import sys
import types

import jax
import numpy as np
import pytest

from tokenizer.errors import UserError
from world_model import ModelCard, WorldModel, pretrained
from world_model.folder import FILES


class Hub(types.SimpleNamespace):
    """What is used of huggingface_hub, with its signatures, over folders on this machine."""

    def __init__(self, place: pathlib.Path):
        super().__init__(place=place, commits=[], HfApi=self._api)

    def _api(self, token=None):
        self.token = token
        return self

    def create_repo(self, repo_id, *, token=None, private=None, repo_type=None, exist_ok=False):
        (self.place / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return types.SimpleNamespace(repo_id=repo_id, private=private)

    def upload_folder(self, *, repo_id, folder_path, commit_message=None, revision=None, repo_type=None):
        shutil.copytree(folder_path, self.place / repo_id, dirs_exist_ok=True)
        self.commits.append((repo_id, commit_message, revision))
        return "commit"

    def snapshot_download(self, repo_id, *, allow_patterns=None):
        if not (self.place / repo_id).is_dir():
            raise OSError("404 Client Error\nRepository Not Found")
        assert set(allow_patterns) == set(FILES)
        return str(self.place / repo_id)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


def assert_same(one: WorldModel, other: WorldModel) -> None:
    assert one.config == other.config
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_model_pushed_to_the_hub_is_found_there_bit_for_bit(model, hub):
    assert model.push_to_hub("someone/tiny", ModelCard(licence="mit"), token="secret") == "commit"
    assert (hub.token, hub.commits) == ("secret", [("someone/tiny", "Push a world model", None)])
    assert_same(WorldModel.from_pretrained("someone/tiny"), model)
    assert 'license: "mit"' in (hub.place / "someone/tiny/README.md").read_text()


def test_what_the_hub_does_not_have_is_one_sentence(hub):
    with pytest.raises(pretrained.NotFound, match=r"the hub did not give it: 404 Client Error$") as found:
        WorldModel.from_pretrained("someone/nowhere")
    assert isinstance(found.value, UserError) and "\n" not in str(found.value)


def test_without_the_hub_package_it_is_said_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for reach in (lambda: WorldModel.from_pretrained("someone/tiny"), lambda: model.push_to_hub("someone/tiny")):
        with pytest.raises(pretrained.NotFound, match=r"pip install 'ivideogpt-jax\[hub\]'"):
            reach()


def test_a_finished_run_is_read_by_its_folder_and_an_unfinished_one_refused(model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(pretrained.NotFound, match="has no model yet: a run has one once it is finished"):
        WorldModel.from_pretrained(run)
    model.save(run / "model")
    assert_same(WorldModel.from_pretrained(run), model)


def test_a_bundled_checkpoint_is_read_by_its_name():
    names = [path.name for path in pretrained.BUNDLED.iterdir() if path.is_dir()]
    assert names
    assert pretrained.find(names[0]) == pretrained.BUNDLED / names[0]


def test_what_is_nowhere_names_what_there_is():
    with pytest.raises(
        FileNotFoundError, match=r"no such folder, no bundled checkpoint .*laptop-metaworld.* no hub name"
    ):
        WorldModel.from_pretrained("nowhere")


def test_the_card_says_what_is_known_and_what_is_not(model, tmp_path):
    model.save(tmp_path / "plain")
    plain = (tmp_path / "plain" / "README.md").read_text()
    assert "| resolution | 16 x 16 |" in plain and plain.count("Not said.") == 2 and "license" not in plain
    card = ModelCard("Squares", ("one", "two"), "cc-by-4.0", {"error": 0.00123456}, "ivideogpt pretrain ...")
    model.save(tmp_path / "told", card)
    told = (tmp_path / "told" / "README.md").read_text()
    assert told.startswith("---\nlibrary_name: ivideogpt-jax\n") and 'license: "cc-by-4.0"\n---' in told
    for line in ("# Squares", "- one\n- two", "| error | 0.001235 |", "ivideogpt pretrain ...", "cc-by-4.0"):
        assert line in told
