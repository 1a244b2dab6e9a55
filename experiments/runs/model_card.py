"""What the card of a run's model says: its data, its command, and its newest figures on held-out recordings."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runs.metrics_log import latest, read_metrics
from experiments.runs.run_folder import RunFolder
from world_model.card import ModelCard

FIGURES = {
    "model/mse_imagined": "mean squared error, imagined",
    "model/mse_copy_last": "copying the last frame",
    "model/mse_shuffled_actions": "imagined under another recording's actions",
    "model/reward_mae": "mean absolute error of the reward",
    "validation/tokenizer/future_mse": "mean squared error of the tokenizer's own pictures",
    "validation/transformer/cross_entropy": "cross entropy per token",
    "validation/transformer/token_accuracy": "share of tokens that are the likeliest",
}
"""Metrics that a card shows, and what it calls them."""


def model_card(folder: RunFolder, data: Sequence[str], command: str) -> ModelCard:
    """Of a run that has written its metrics; the licence is its owner's to say."""
    lines = read_metrics(folder.metrics)
    metrics = {title: line[name] for name, title in FIGURES.items() if (line := latest(lines, name)) is not None}
    return ModelCard(f"World model of the run {folder.path.name}", tuple(data), None, metrics, command)
