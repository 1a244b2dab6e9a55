"""The published pre-training mixture: 35 Open X-Embodiment sets and Something-Something v2 (paper appendix on data).

Weights are percent of the sampled segments; one of the 35, UIUC D3Field, counts as four sets, one per camera. Step
sizes bring a set to about the 3 frames per second of Fractal. Actions are joined in the order of their keys.
Something-Something v2 is not augmented.
"""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Sequence

from experiments.data import held_out
from experiments.data.loader import DatasetSpec
from experiments.data.recording import DataError

RLDS = "_converted_externally_to_rlds"
SOMETHING = "something_something_v2"
ROBOTS = 85.0
"""Percent that Something-Something v2, at 15, leaves to the robots' sets."""
SMALL = ROBOTS * 0.2 / 31
"""Sets that share a fifth of that evenly, D3Field's four cameras among them."""

POSE = ("world_vector", "rotation_delta")
CLOSED, OPEN = (*POSE, "gripper_closedness_action"), (*POSE, "open_gripper")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A set of the mixture. Keys are those in the steps of its RLDS episodes."""

    name: str
    """The folder that it is converted to."""
    weight: float
    """Percent of the sampled segments, Something-Something v2 included."""
    step: int
    image_key: str = "image"
    """Under `observation`."""
    action_keys: tuple[str, ...] = ()
    """Under `action`; none: `action` itself is the array."""
    catalogue_name: str = ""
    """In tensorflow-datasets, where that is not `name`."""

    @property
    def source(self) -> str:
        return self.catalogue_name or self.name


DATA_SETS = (
    DataSet(SOMETHING, 15.0, 1),
    DataSet("fractal20220817_data", ROBOTS * 0.15, 1, action_keys=CLOSED),
    DataSet("bridge", ROBOTS * 0.15, 2, action_keys=OPEN),
    DataSet(
        "bc_z", ROBOTS * 0.15, 3,
        action_keys=("future/xyz_residual", "future/axis_angle_residual", "future/target_close"),
    ),
    DataSet(held_out.ROBONET_COPIES, ROBOTS * 0.15, 1),
    DataSet("kuka", ROBOTS * 0.1, 3, action_keys=CLOSED),
    DataSet("language_table", ROBOTS * 0.05, 3, image_key="rgb"),
    DataSet(f"stanford_mask_vit{RLDS}", ROBOTS * 0.05, 1),
    *(
        DataSet(f"uiuc_d3field{camera}", SMALL, 1, image_key=f"image_{camera}", catalogue_name="uiuc_d3field")
        for camera in (1, 2, 3, 4)
    ),
    DataSet("taco_play", SMALL, 5, image_key="rgb_static", action_keys=("rel_actions_world",)),
    DataSet("jaco_play", SMALL, 3, action_keys=("world_vector", "gripper_closedness_action")),
    DataSet("roboturk", SMALL, 3, image_key="front_rgb", action_keys=CLOSED),
    DataSet("viola", SMALL, 7, image_key="agentview_rgb", action_keys=CLOSED),
    DataSet("toto", SMALL, 10, action_keys=OPEN),
    DataSet("columbia_cairlab_pusht_real", SMALL, 3, action_keys=CLOSED),
    DataSet(f"stanford_kuka_multimodal_dataset{RLDS}", SMALL, 7),
    DataSet(f"stanford_hydra_dataset{RLDS}", SMALL, 3),
    DataSet(f"austin_buds_dataset{RLDS}", SMALL, 7),
    DataSet(f"nyu_franka_play_dataset{RLDS}", SMALL, 1),
    DataSet(f"furniture_bench_dataset{RLDS}", SMALL, 3),
    DataSet(f"ucsd_kitchen_dataset{RLDS}", SMALL, 1),
    DataSet(f"ucsd_pick_and_place_dataset{RLDS}", SMALL, 1),
    DataSet(f"austin_sailor_dataset{RLDS}", SMALL, 7),
    DataSet(f"utokyo_pr2_tabletop_manipulation{RLDS}", SMALL, 3),
    DataSet(f"utokyo_xarm_pick_and_place{RLDS}", SMALL, 3),
    DataSet(f"utokyo_xarm_bimanual{RLDS}", SMALL, 3),
    DataSet(f"kaist_nonprehensile{RLDS}", SMALL, 3),
    DataSet(f"dlr_sara_pour{RLDS}", SMALL, 3),
    DataSet(f"dlr_sara_grid_clamp{RLDS}", SMALL, 3),
    DataSet(f"dlr_edan_shared_control{RLDS}", SMALL, 2),
    DataSet(f"asu_table_top{RLDS}", SMALL, 4),
    DataSet("utaustin_mutex", SMALL, 7),
    DataSet("berkeley_fanuc_manipulation", SMALL, 3),
    DataSet("cmu_playing_with_food", SMALL, 3),
    DataSet("cmu_play_fusion", SMALL, 2),
    DataSet("cmu_stretch", SMALL, 3),
)  # fmt: skip

NAMES = tuple(data_set.name for data_set in DATA_SETS)


def find(name: str) -> DataSet:
    """The set of this name, or DataError that offers the closest ones."""
    for data_set in DATA_SETS:
        if data_set.name == name:
            return data_set
    close = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)
    raise DataError(f"no data set '{name}' in the mixture" + (f": did you mean {', '.join(close)}?" if close else ""))


def of_catalogue(source: str) -> DataSet | None:
    """The first set made from this one of tensorflow-datasets; None where the mixture has none."""
    return next((data_set for data_set in DATA_SETS if data_set.source == source), None)


def specs(root: pathlib.Path, names: Sequence[str] | None = None, videos: bool = True) -> list[DatasetSpec]:
    """The mixture, or the sets named, from the folders of these names in `root`, with the published weights and steps.

    videos: with Something-Something v2, as the tokenizer is trained; the transformer is trained without. Raises
    DataError that names every folder that is missing.
    """
    data_sets = [find(name) for name in (NAMES if names is None else names)]
    data_sets = [data_set for data_set in data_sets if videos or data_set.name != SOMETHING]
    if missing := [data_set.name for data_set in data_sets if not (root / data_set.name).is_dir()]:
        raise DataError(f"{root} lacks {', '.join(missing)}: convert them, or name the sets to train on")
    return [
        DatasetSpec(root / data_set.name, data_set.weight, data_set.step, augmented=data_set.name != SOMETHING)
        for data_set in data_sets
    ]
