"""The README.md of a saved model: what it is, what it learned from, under which licence, and how good it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from world_model.config import TransformerConfig, WorldModelConfig
from world_model.params import sizes


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a reader of a model wants to know and its configuration does not say."""

    name: str = "World model"
    data: tuple[str, ...] = ()  # names of the data sets
    licence: str | None = None  # as the hub names them: mit, apache-2.0, cc-by-4.0, ...
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)  # on held-out recordings, by name
    command: str | None = None  # that made it


def text(config: WorldModelConfig, card: ModelCard) -> str:
    """The whole README.md, with the metadata that the hub reads in front."""
    parts = [_metadata(card), f"# {card.name}\n", _table(describe(config))]
    data = "".join(f"- {name}\n" for name in card.data) or "Not said.\n"
    parts.append(f"## Data\n\n{data}")
    if card.metrics:
        figures = {name: f"{value:.4g}" for name, value in card.metrics.items()}
        parts.append(f"## Held-out recordings\n\n{_table(figures)}")
    if card.command:
        parts.append(f"## Made by\n\n```bash\n{card.command}\n```\n")
    parts.append(f"## Licence\n\n{card.licence or 'Not said.'}\n")
    parts.append(
        "## Use\n\n```python\nfrom world_model import WorldModel\n\n"
        'model = WorldModel.from_pretrained("FOLDER or hub name")\n```\n'
    )
    return "\n".join(parts)


def describe(config: WorldModelConfig) -> dict[str, str]:
    """What a model is, one fact each."""
    tokenizer, transformer, counts = config.tokenizer, config.transformer, sizes(config)
    goal = ", the first of them the goal" if config.goal_conditioned else ""
    return {
        "resolution": f"{tokenizer.resolution} x {tokenizer.resolution}",
        "context frames": f"{tokenizer.context_frames}{goal}",
        "tokens per frame": f"{tokenizer.tokens_per_context} context, {tokenizer.tokens_per_future} future",
        "tokenizer": f"{counts['tokenizer']:,} parameters",
        "transformer": f"{counts['transformer']:,} parameters",
        "action size": str(transformer.action_size or "none (action-free)"),
        "reward head": _reward_head(transformer),
    }


def _reward_head(transformer: TransformerConfig) -> str:
    if not transformer.reward_head:
        return "no"
    return f"yes, and an ensemble of {transformer.reward_networks}" if transformer.reward_networks else "yes"


def _metadata(card: ModelCard) -> str:
    """YAML; JSON strings are YAML, too."""
    lines = ["library_name: ivideogpt-jax", "tags: [world-model, video-prediction, robotics, ivideogpt]"]
    if card.licence:
        lines.append(f"license: {json.dumps(card.licence)}")
    return "\n".join(["---", *lines, "---", ""])


def _table(facts: Mapping[str, str]) -> str:
    return "".join(["| | |\n|---|---|\n", *(f"| {name} | {value} |\n" for name, value in facts.items())])
