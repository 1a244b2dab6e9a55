"""`ivideogpt import-weights`."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence


def import_weights(arguments: Sequence[str], description: str) -> int:
    parser = argparse.ArgumentParser(prog="ivideogpt import-weights", description=description)
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a folder in the published layout, a run, a name on the hub, or the folder of aMUSEd's VQ-VAE",
    )
    parser.add_argument("destination", metavar="DST", type=pathlib.Path, help="the folder to write")
    parser.add_argument("--context-frames", type=int, metavar="N", help="make it a model of N context frames")
    parser.add_argument("--action-size", type=int, metavar="A", help="let it take actions of A numbers")
    parser.add_argument(
        "--goal-conditioned", action="store_true", help="its context begins with the goal (*-goal-cond)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the files; float16: half the size, rounded",
    )
    options = parser.parse_args(arguments)
    from experiments.weights.import_weights import describe, import_weights

    config = import_weights(**vars(options))
    print(describe(config))
    print(f"written to {options.destination}")
    return 0
