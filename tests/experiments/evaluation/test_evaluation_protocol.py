"""What is measured of a small model, and what the commands leave behind."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from small import CONFIG, small_model

from agent.replay import save_episode
from experiments import cli
from experiments.data.loader import DatasetSpec
from experiments.data.recording import DataError, make_recording
from experiments.data.segments import members
from experiments.data.store import Store
from experiments.data.writer import StoreWriter
from experiments.errors import UsageError, UserError
from experiments.evaluation import command as evaluation
from experiments.evaluation import protocol
from experiments.evaluation.protocol import MeasuredModel, Protocol, compare_metrics, measure
from experiments.evaluation.segments import Footage, Learned, RecordingSet, cut_segments, read_learned, read_recordings
from experiments.pretraining import presets
from experiments.runs.ray_engine import ray_tasks
from experiments.runs.run_folder import RunFolder, RunFolderError
from world_model import WorldModel

PROTOCOL = Protocol(videos=3, samples=4, horizon=2, batch=6)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def recordings():
    rng = np.random.default_rng(0)
    lengths = (8, 4, 3)
    return [
        (f"r{i}", make_recording(rng.integers(256, size=(t, 16, 16, 3), dtype=np.uint8), rng.uniform(-1, 1, (t, 3))))
        for i, t in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def segments(recordings):
    return cut_segments(recording_set(recordings), CONFIG, 2, 3)


def recording_set(recordings, step=1) -> list[RecordingSet]:
    return [RecordingSet("here", tuple(Footage.of(*pair) for pair in recordings), step)]


def result(*arguments) -> MeasuredModel:
    *progress, found = measure(*arguments)
    assert [(event.phase, event.done, event.total) for event in progress] == [
        *(("futures", done, 12) for done in (6, 12)),
        *(("comparisons", done, 3) for done in range(4)),
    ]
    return found


@pytest.fixture(scope="module")
def measured(model, segments):
    return result(model, segments, PROTOCOL, None)


def test_ray_tasks_measure_the_same(model, segments, measured, ray):
    with ray_tasks(2) as tasks:
        *_, found = measure(model, segments, PROTOCOL, None, None, tasks.map)
    assert len(ray.begun) == 2 and ray.most == 2
    for field in dataclasses.fields(MeasuredModel):
        jax.tree.map(np.testing.assert_array_equal, getattr(found, field.name), getattr(measured, field.name))


def test_progress_is_at_its_end_when_everything_is(model, segments, monkeypatch):
    """Fault 18: it said '100%, 0 s left', and went on for minutes."""
    happened = []
    for name in ("predict_futures", "compare_metrics"):
        usual = getattr(protocol, name)
        monkeypatch.setattr(protocol, name, lambda *a, u=usual, n=name: (happened.append(n), u(*a))[1])
    for _ in measure(model, segments, PROTOCOL, None):
        happened.append("event")
    worked = [index for index, what in enumerate(happened) if what in ("predict_futures", "compare_metrics")]
    assert len(worked) > 5 and happened[max(worked) :].count("event") == 2  # the last progress, and what was measured


@pytest.mark.slow
def test_a_goal_conditioned_model_is_judged_on_the_frames_between_its_beginning_and_the_goal(recordings):
    model = WorldModel.init(dataclasses.replace(CONFIG, goal_conditioned=True), jax.random.key(0))
    segments = cut_segments(recording_set(recordings), model.config, 2, 3)
    *_, found = measure(model, segments, Protocol(videos=3, samples=1, horizon=2), None)
    frames = segments.frames_vthwc.astype(np.float64) / 255
    expected = np.square(frames[:, 1:3] - frames[:, :1]).mean((2, 3, 4))  # of context frames 2: the goal, and the first
    np.testing.assert_allclose(found.copy_last["mse"], expected, rtol=1e-5)


def test_segments_are_spread_over_recordings_and_over_their_time(recordings, segments):
    assert segments.names == ("r0 from 0", "r0 from 4", "r1 from 0")  # r2 is too short
    np.testing.assert_array_equal(segments.frames_vthwc[1], recordings[0][1].frames[4:8])
    np.testing.assert_array_equal(segments.actions_vta[1], recordings[0][1].actions[4:8])


def test_one_segment_of_a_recording_is_its_beginning_as_with_the_test_videos_of_bair(recordings):
    whole = cut_segments(recording_set(recordings), CONFIG, 1, 3)
    assert whole.names == ("r0 from 0", "r1 from 0", "r2 from 0")
    for index, (_, each) in enumerate(recordings):
        np.testing.assert_array_equal(whole.frames_vthwc[index], each.frames[:3])
    assert cut_segments(recording_set(recordings), CONFIG, 1, 2).names == (
        "r0 from 0",
        "r2 from 0",
    )  # fewer: spread over all


def test_a_step_takes_every_so_many_th_frame_with_its_own_action(recordings):
    whole = recordings[0][1]
    stepped = cut_segments(recording_set(recordings, step=2), CONFIG, 2, 2)
    assert stepped.names == ("r0 from 0", "r0 from 1")  # r1 and r2 are too short
    for start in range(2):
        np.testing.assert_array_equal(stepped.frames_vthwc[start], whole.frames[start::2][:4])
        np.testing.assert_array_equal(stepped.actions_vta[start], whole.actions[start::2][:4])


def test_a_short_recording_repeats_its_last_frame_and_action_in_the_papers_protocol(recordings):
    name, short = recordings[2]
    cut = cut_segments(recording_set(recordings), CONFIG, 3, 3, repeat_last=True)
    assert cut.names[2] == f"{name} from 0" and short.length == 3
    np.testing.assert_array_equal(cut.frames_vthwc[2], short.frames[[0, 1, 2, 2, 2]])
    np.testing.assert_array_equal(cut.actions_vta[2], short.actions[[0, 1, 2, 2, 2]])


def test_places_get_even_shares_whatever_they_hold_and_each_its_own_step(recordings):
    both = recording_set(recordings) + recording_set(recordings[:1], step=2)
    assert cut_segments(both, CONFIG, 2, 4).names == ("r0 from 0", "r1 from 0", "r0 from 0", "r0 from 1")


def test_the_best_sample_counts_for_each_metric_and_the_mean_over_all(measured):
    for name, best in (("mse", np.min), ("psnr", np.max), ("ssim", np.max)):
        of_videos = measured.sampled[name].mean(-1)
        assert of_videos.shape == (3, 4)
        assert len(np.unique(of_videos)) > 6  # samples differ
        assert measured.best(name) == pytest.approx(best(of_videos, axis=1).mean())
    np.testing.assert_allclose(measured.by_horizon("mse"), measured.sampled["mse"].mean((0, 1)))


def test_kept_futures_are_those_of_the_lowest_error(measured, segments):
    errors = compare_metrics(segments.frames_vthwc[:, 2:], measured.futures_vfhwc, None)["mse"].mean(-1)
    np.testing.assert_allclose(errors, measured.sampled["mse"].mean(-1).min(1), rtol=1e-5)


def test_repeating_is_the_last_context_frame(measured, segments):
    frames = segments.frames_vthwc.astype(np.float64) / 255
    expected = ((frames[:, 2:] - frames[:, 1:2]) ** 2).mean((2, 3, 4))
    np.testing.assert_allclose(measured.copy_last["mse"], expected, rtol=1e-5)


def test_figures_depend_on_the_seed_alone(model, segments, measured):
    again = result(model, segments, PROTOCOL, None)
    np.testing.assert_array_equal(again.sampled["mse"], measured.sampled["mse"])
    other = result(model, segments, dataclasses.replace(PROTOCOL, seed=1), None)
    assert (other.sampled["mse"] != measured.sampled["mse"]).any()
    np.testing.assert_array_equal(other.greedy["mse"], measured.greedy["mse"])


def test_without_temperature_every_sample_is_the_most_likely_future(model, segments):
    cold = result(model, segments, dataclasses.replace(PROTOCOL, temperature=0.0), None)
    np.testing.assert_array_equal(cold.sampled["mse"], np.repeat(cold.greedy["mse"][:, None], 4, 1))
    assert (cold.shuffled_actions["mse"] != cold.greedy["mse"]).any()


def test_a_model_without_actions_has_no_answer_to_them(segments):
    plain = dataclasses.replace(CONFIG, transformer=dataclasses.replace(CONFIG.transformer, action_size=0))
    blind = cut_segments(recording_set([("r", make_recording(np.zeros((4, 16, 16, 3), np.uint8)))]), plain, 2, 1)
    *_, found = measure(
        WorldModel.init(plain, jax.random.key(0)), blind, dataclasses.replace(PROTOCOL, samples=1), None
    )
    assert found.shuffled_actions is None


def test_recordings_that_do_not_fit_are_refused_with_what_is_wrong(recordings):
    with pytest.raises(DataError, match="the 22 frames of a context and 20 to predict; the longest has 8"):
        cut_segments(recording_set(recordings), CONFIG, 20, 3)
    with pytest.raises(DataError, match="the 10 frames of a context and 2 to predict at step 3; the longest has 8"):
        cut_segments(recording_set(recordings, step=3), CONFIG, 2, 3)
    wide = [("wide", make_recording(np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 5))))]
    with pytest.raises(DataError, match="'wide': actions of 5 numbers"):
        cut_segments(recording_set(wide), CONFIG, 2, 1)
    with pytest.raises(DataError, match="'still' has no actions"):
        cut_segments(recording_set([("still", make_recording(np.zeros((4, 16, 16, 3), np.uint8)))]), CONFIG, 2, 1)
    with pytest.raises(DataError, match="no such data set"):
        read_recordings([DatasetSpec(pathlib.Path("nowhere"))], "validation")


@pytest.mark.parametrize("kind", ["an array", "pickled", "no picture", "rubbish"])
def test_a_file_that_is_no_episode_is_one_sentence_with_its_name(tmp_path, kind):
    """Fault 14: a pickled .npz that predict was given ended in a traceback."""
    path = tmp_path / "odd.npz"
    with open(path, "wb") as file:
        if kind == "an array":
            np.save(file, np.zeros(3))
        elif kind == "pickled":
            np.savez(file, image=np.array([{}], object))
        elif kind == "no picture":
            np.savez(file, image=np.zeros(3))
        else:
            file.write(b"rubbish")
    with pytest.raises(UserError, match=r"odd\.npz") as error:
        read_recordings([DatasetSpec(path)], "validation")
    assert "\n" not in str(error.value)


def command(monkeypatch, capsys, *typed) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ivideogpt", *map(str, typed)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def store(recordings, tmp_path):
    return write(tmp_path / "set", recordings)


def write(folder, recordings) -> pathlib.Path:
    with StoreWriter(folder, {}) as writer:
        for name, each in recordings:
            writer.add(name, each)
        writer.finish()
    return folder


@pytest.mark.slow
def test_commands_write_figures_videos_and_a_page(model, store, tmp_path, monkeypatch, capsys):
    model.save(tmp_path / "model")
    on = [tmp_path / "model", "--data", store, "--validation-share", "0.6", "--horizon", "2", "--videos", "2"]
    code, said, _ = command(
        monkeypatch, capsys, "evaluate", *on, "--samples", "2", "--without", "lpips", "--out", tmp_path / "out"
    )
    assert code == 0 and "best" in said
    assert f"on {store} (validation split, validation share 0.6)\n2 videos, 2 samples each, 2 frames ahead\n" in said
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["protocol"]["samples"] == 2 and found["protocol"]["videos"] == 2
    assert set(found["metrics"]) >= {"mse", "psnr", "ssim"}
    assert found["not_measured"]["lpips"] == "left out by --without" and "lpips" not in found["metrics"]
    assert found["beyond"]["action_response"] > 0
    assert found["fvd"] is None and "at least 9 frames" in found["not_measured"]["fvd"]
    table = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
    assert len(table) == 3 and table[0].startswith("video,mse_best")
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count("<video") == 2 and "http" not in page.replace("http://www.w3.org", "")
    code, said, _ = command(monkeypatch, capsys, "predict", *on, "--out", tmp_path / "predicted")
    assert code == 0 and "2 videos" in said
    with np.load(tmp_path / "predicted" / "predicted.npz") as file:
        assert file["predicted"].shape == (2, 2, 16, 16, 3)
    code, _, error = command(
        monkeypatch, capsys, "evaluate", tmp_path / "model", "--horizon", "2", "--out", tmp_path / "x"
    )
    assert code == 2 and "say what to predict with --data" in error


# --- which recordings -------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path):
    """A data set of ten recordings of seven frames; frame t is filled with t."""
    frames = np.broadcast_to(np.arange(7, dtype=np.uint8)[:, None, None, None], (7, 16, 16, 3))
    actions = np.repeat(np.arange(7, dtype=np.float32)[:, None], 3, 1)
    return write(tmp_path / "many", [(f"m{i}", make_recording(frames, actions)) for i in range(10)])


@pytest.fixture
def run(model, many, store, tmp_path):
    """A finished run of two data sets, of which it took every frame and every other one and held three tenths out."""
    settings = dataclasses.replace(
        presets.get("debug"), data=(DatasetSpec(many, step=2), DatasetSpec(store, 0.5)), validation_share=0.3
    )
    folder = RunFolder(tmp_path / "run")
    with folder.claim(settings):
        model.save(folder.model)
    return folder.path


@pytest.mark.slow
def test_of_a_run_it_lies_in_the_run_whose_page_shows_and_links_it(run, tmp_path, monkeypatch, capsys):
    """Found by use, 21: the evaluation was not linked."""
    quick = ["--horizon", "2", "--videos", "2", "--samples", "2", "--without", "lpips"]
    code, said, error = command(monkeypatch, capsys, "evaluate", run, *quick)
    assert code == 0, error
    assert f"which is linked from {run / 'report.html'}" in said
    page = (run / "report.html").read_text()
    assert 'href="evaluation/evaluation.html"' in page and (run / "evaluation" / "evaluation.html").exists()
    assert "PSNR in dB" in page and "LPIPS" not in page
    code, _, error = command(monkeypatch, capsys, "evaluate", run / "model", *quick)
    assert code == 2 and "say where with --out FOLDER" in error


def held_out(folder, share) -> set[str]:
    names = Store(folder).names
    return {names[index] for index in members(names, "validation", share)}


def predicted_names(monkeypatch, capsys, out, *typed) -> list[str]:
    """Of the segments; nothing is predicted."""
    monkeypatch.setattr(protocol, "predict_futures", lambda model, segments, *_: segments.frames_vthwc[:, 2:])
    code, _, error = command(monkeypatch, capsys, "predict", "--horizon", "2", "--videos", "40", "--out", out, *typed)
    assert code == 0, error
    with np.load(out / "predicted.npz") as file:
        return file["names"].tolist()


def recordings_of(names) -> set[str]:
    return {name.partition(" from ")[0] for name in names}


def test_a_run_says_what_it_learned_from(run, many, store):
    assert read_learned(run) == Learned((DatasetSpec(many, step=2), DatasetSpec(store, 0.5)), 0.3)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [{"folder": "set", "weight": 1.0}]},
        {"data": [{"folder": None, "weight": 1.0, "step": 1}]},
        {"data": [{"folder": "set", "weight": "much", "step": 1}]},
        {"data": [{"folder": "set", "weight": 1.0, "step": 0.5}]},
        {"data": ["set"]},
        {"data": 3},
        {"validation_share": float("nan")},
        {"validation_share": []},
    ],
)
def test_a_damaged_list_of_what_a_run_learned_from_is_one_sentence(tmp_path, changes):
    """It was a traceback."""
    folder = RunFolder(tmp_path)
    with folder.claim({"data": [], "validation_share": 0.1} | changes):
        pass
    with pytest.raises(RunFolderError, match=r"config\.yaml does not say what the run learned from \("):
        read_learned(tmp_path)


@pytest.mark.parametrize("named", ["run", "its model"])
def test_without_data_a_run_is_judged_by_what_it_held_out_itself_at_its_own_steps(
    run, named, many, store, tmp_path, monkeypatch, capsys
):
    names = predicted_names(monkeypatch, capsys, tmp_path / "out", run if named == "run" else run / "model")
    assert held_out(many, 0.3) != held_out(many, 0.01)
    expected = {f"many/{name}" for name in held_out(many, 0.3)} | {f"set/{name}" for name in held_out(store, 0.3)}
    assert recordings_of(names) <= expected and {f"many/{name}" for name in held_out(many, 0.3)} <= recordings_of(names)
    with np.load(tmp_path / "out" / "predicted.npz") as file:
        first = file["real"][next(index for index, name in enumerate(names) if name.endswith("from 0"))]
    np.testing.assert_array_equal(first[:, 0, 0, 0], [0, 2, 4, 6])  # every other frame


def test_with_data_the_share_and_the_step_are_the_runs_unless_typed(run, many, tmp_path, monkeypatch, capsys):
    of_set = [run, "--data", many]
    names = predicted_names(monkeypatch, capsys, tmp_path / "own", *of_set)
    assert recordings_of(names) == held_out(many, 0.3) and len(names) == 3  # seven frames are one segment at step 2
    names = predicted_names(
        monkeypatch, capsys, tmp_path / "typed", *of_set, "--validation-share", "0.5", "--step", "1"
    )
    assert recordings_of(names) == held_out(many, 0.5) and len(names) == 5 * 4
    names = predicted_names(monkeypatch, capsys, tmp_path / "behind", run, "--data", f"{many}@step=1")
    assert recordings_of(names) == held_out(many, 0.3) and len(names) == 3 * 4
    names = predicted_names(monkeypatch, capsys, tmp_path / "train", *of_set, "--split", "train")
    assert recordings_of(names) == {f"m{i}" for i in range(10)} - held_out(many, 0.3)


def test_a_set_that_is_a_test_set_as_a_whole_is_evaluated_whole(model, many, tmp_path, monkeypatch, capsys):
    model.save(tmp_path / "alone")
    of_set = [tmp_path / "alone", "--data", many, "--split", "all"]
    names = predicted_names(monkeypatch, capsys, tmp_path / "out", *of_set)
    assert recordings_of(names) == {f"m{i}" for i in range(10)}
    names = predicted_names(monkeypatch, capsys, tmp_path / "out", *of_set, "--videos", "10")
    assert names == [f"m{i} from 0" for i in range(10)]


def test_the_papers_protocol_predicts_the_rest_of_a_training_segment_unless_a_horizon_is_typed(
    model, many, tmp_path, monkeypatch, capsys
):
    def refuse(model, segments, protocol, *weights):
        raise UsageError(
            f"{protocol.videos} videos, {protocol.samples} samples, {segments.frames_vthwc.shape[1]} frames"
        )

    monkeypatch.setattr(evaluation, "measure", refuse)
    model.save(tmp_path / "alone")
    paper = [
        "evaluate",
        tmp_path / "alone",
        "--data",
        many,
        "--paper",
        "--without",
        "lpips",
        "fvd",
        "--out",
        tmp_path / "out",
    ]
    for typed, frames in (((), CONFIG.segment_frames), (("--horizon", "1"), 3), (("--horizon", "6"), 8)):
        code, _, error = command(monkeypatch, capsys, *paper, *typed)
        assert code == 2 and f"256 videos, 100 samples, {frames} frames" in error


def test_what_cannot_be_evaluated_is_said_before_anything_is_predicted(
    run, many, recordings, tmp_path, monkeypatch, capsys
):
    def said(*typed) -> str:
        code, _, error = command(monkeypatch, capsys, "evaluate", *typed, "--horizon", "2", "--out", tmp_path / "out")
        assert code == 2
        return error

    assert "expected a share" in said(run, "--validation-share", "30")
    assert "--step 0: expected at least 1" in said(run, "--step", "0")
    assert "nothing is in the validation split at --validation-share 0" in said(
        run, "--data", many, "--validation-share", "0"
    )
    assert "held nothing out" in said(run, "--validation-share", "0")
    many.rename(tmp_path / "moved")
    assert "which is not here" in said(run)


def test_the_only_recording_of_a_set_that_a_run_learned_from_is_predicted_with_a_warning(
    model, recordings, tmp_path, monkeypatch, capsys
):
    lone, folder = write(tmp_path / "lone", recordings[:1]), RunFolder(tmp_path / "run")
    with folder.claim(dataclasses.replace(presets.get("debug"), data=(DatasetSpec(lone),))):
        model.save(folder.model)
    monkeypatch.setattr(protocol, "predict_futures", lambda model, segments, *_: segments.frames_vthwc[:, 2:])
    on = [folder.model, "--horizon", "2", "--out", tmp_path / "out"]
    code, _, error = command(monkeypatch, capsys, "predict", *on, "--data", lone)
    assert code == 0 and f"{lone}: its only recording is one that the model learned from" in error
    code, _, error = command(monkeypatch, capsys, "predict", *on)
    assert code == 2 and "held nothing out" in error


def test_a_folder_of_episode_files_is_read_whole(make_episode, tmp_path):
    kept = [make_episode(length, side=16) for length in (6, 4)]
    for index, episode in enumerate(kept):
        save_episode(tmp_path / f"{index}.npz", episode)
    (found,) = read_recordings([DatasetSpec(tmp_path)], "validation")
    assert [(each.name, each.length) for each in found.recordings] == [("0.npz", 7), ("1.npz", 5)]
    np.testing.assert_array_equal(found.recordings[1].read(np.arange(2)).frames, kept[1].frames[:2])


def test_an_agents_run_is_judged_by_the_episodes_that_it_kept(model, make_episode, tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path / "run")
    with folder.claim({"task": "reach"}):
        model.save(folder.model)
    for kind in ("random", "scripted"):
        (folder.path / "held_out" / kind).mkdir(parents=True)
        kept = make_episode(6, side=16)
        save_episode(folder.path / "held_out" / kind / "0.npz", dataclasses.replace(kept, actions=kept.actions[:, :3]))
    names = predicted_names(monkeypatch, capsys, tmp_path / "out", folder.path, "--step", "2")
    assert names == ["random-0 from 0", "scripted-0 from 0"]
    whole = [folder.path, "--split", "all", "--horizon", "2", "--out", tmp_path / "out"]
    code, _, error = command(monkeypatch, capsys, "predict", *whole)
    assert code == 2 and "--split all is of data sets" in error
