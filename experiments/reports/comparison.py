"""How an evaluation of a world model is told: as metrics, and as a sentence."""

from __future__ import annotations

from typing import Any

from agent.mbpo.model_evaluation import Comparison
from experiments.runs.progress import counted


def scalars(comparison: Comparison) -> dict[str, Any]:
    """An evaluation of a world model as metrics, without those that this model has not."""
    values: dict[str, Any] = {"model/segments": comparison.segments, "model/reward_mae": comparison.reward_mae}
    for name in ("imagined", "copy_last", "shuffled_actions"):
        values[f"model/mse_{name}"] = getattr(comparison, f"mse_{name}")
        values[f"model/mse_{name}_by_horizon"] = getattr(comparison, f"mse_{name}_f")
        values[f"model/moving_mse_{name}"] = getattr(comparison, f"moving_mse_{name}")
    return {name: value for name, value in values.items() if value is not None}


def sentence(comparison: Comparison) -> str:
    """An evaluation of a world model as a sentence."""
    said = (
        f"imagination over {counted(len(comparison.mse_imagined_f), 'frame')} of "
        f"{counted(comparison.segments, 'held-out segment')}, mean "
        f"squared error: imagined {comparison.mse_imagined:.5f}, copying the last frame "
        f"{comparison.mse_copy_last:.5f} ({_verdict(comparison.beats_copy_last)})"
    )
    if comparison.mse_shuffled_actions is None:
        return said
    verdict = _verdict(bool(comparison.beats_shuffled_actions))
    return f"{said}, another episode's actions {comparison.mse_shuffled_actions:.5f} ({verdict})"


def _verdict(won: bool) -> str:
    return "imagination wins" if won else "imagination loses"
