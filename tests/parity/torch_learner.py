"""DrQ-v2's update in PyTorch, to compare ours with: in numbers (`make_golden.py`), in speed (`bench_against_torch.py`).

With the published networks, and without what only our laptop preset has: layer norm in the critics, behaviour cloning.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # the goldens are made where JAX is not installed
    from agent.drqv2 import DrQv2Config, NetworkConfig


class Encoder(nn.Module):
    """uint8 pictures [B, channels, H, W] to flat features [B, D]."""

    def __init__(self, config: NetworkConfig, channels: int):
        super().__init__()
        widths = itertools.pairwise([channels, *[config.channels] * 4])
        layers = [nn.Conv2d(x, y, 3, stride) for (x, y), stride in zip(widths, (2, 1, 1, 1), strict=True)]
        self.layers = nn.Sequential(*itertools.chain(*((layer, nn.ReLU()) for layer in layers)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures / 255 - 0.5).flatten(1)


class Head(nn.Module):
    """A trunk, and MLPs on what it makes of the features beside the actions, if any: [outs, B, size]."""

    def __init__(self, config: NetworkConfig, features: int, action_size: int, outs: int, size: int):
        super().__init__()
        hidden = config.hidden
        self.trunk = nn.Sequential(nn.Linear(features, config.features), nn.LayerNorm(config.features), nn.Tanh())
        self.mlps = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.features + action_size, hidden), nn.ReLU(),
                nn.Linear(hidden, hidden), nn.ReLU(),
                nn.Linear(hidden, size),
            )
            for _ in range(outs)
        )  # fmt: skip

    def forward(self, features: Tensor, *actions: Tensor) -> Tensor:
        x = torch.cat([self.trunk(features), *actions], dim=-1)
        return torch.stack([mlp(x) for mlp in self.mlps])


def random_shift(pictures: Tensor, pixels: int) -> Tensor:
    """Crops of the edge-padded pictures [B, C, H, W], each at a place of its own."""
    b, _, h, w = pictures.shape
    padded = F.pad(pictures, [pixels] * 4, mode="replicate")
    places = torch.randint(2 * pixels + 1, (b, 2)).tolist()
    return torch.stack([one[:, i : i + h, j : j + w] for one, (i, j) in zip(padded, places, strict=True)])


class Learner:
    """Encoder, actor, critics and their optimizers; `update` does what `agent.drqv2.update` does."""

    def __init__(self, config: DrQv2Config):
        self.config = config
        channels, network, actions, side = 3 * config.stack, config.network, config.action_size, config.resolution
        self.encoder = Encoder(network, channels)
        features = self.encoder(torch.zeros(1, channels, side, side)).shape[1]
        self.actor = Head(network, features, 0, 1, actions)
        self.critics = Head(network, features, actions, 2, 1)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.of_critics = self._adam(self.encoder, self.critics)
        self.of_actor = self._adam(self.actor)

    def _adam(self, *modules: nn.Module) -> torch.optim.Adam:
        parameters = itertools.chain(*(module.parameters() for module in modules))
        return torch.optim.Adam(parameters, self.config.learning_rate, weight_decay=self.config.weight_decay)

    def _action(self, features: Tensor, std: float) -> Tensor:
        mean = torch.tanh(self.actor(features)[0])
        noise = (torch.randn_like(mean) * std).clamp(-self.config.noise_clip, self.config.noise_clip)
        action = mean + noise
        return action + (action.clamp(-1 + 1e-6, 1 - 1e-6) - action).detach()

    def update(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, discounts: Tensor, nexts: Tensor, std: float
    ) -> tuple[Tensor, Tensor]:
        """observations, nexts: uint8 [B, C, H, W]. Returns the losses of critics and actor."""
        features = self.encoder(random_shift(observations.float(), self.config.shift_pixels))
        with torch.no_grad():
            next_features = self.encoder(random_shift(nexts.float(), self.config.shift_pixels))
            next_values = self.target_critics(next_features, self._action(next_features, std))[..., 0]
            targets = rewards + discounts * next_values.amin(0)
        critic_loss = (self.critics(features, actions)[..., 0] - targets).square().mean(1).sum()
        _descend(self.of_critics, critic_loss)
        features = features.detach()
        actor_loss = -self.critics(features, self._action(features, std))[..., 0].amin(0).mean()
        _descend(self.of_actor, actor_loss)
        with torch.no_grad():
            for old, new in zip(self.target_critics.parameters(), self.critics.parameters(), strict=True):
                old.lerp_(new, self.config.tau)
        return critic_loss.detach(), actor_loss.detach()


def _descend(optimizer: torch.optim.Adam, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def repeated_update(config: DrQv2Config, batch: int) -> Callable[[], None]:
    """A function that makes the updates of one agent step, always on the same made-up batch."""
    learner = Learner(config)
    shape = (batch, 3 * config.stack, config.resolution, config.resolution)
    pictures = [torch.randint(256, shape, dtype=torch.uint8) for _ in range(2)]
    actions, rewards = torch.rand(batch, config.action_size) * 2 - 1, torch.rand(batch)
    arguments = pictures[0], actions, rewards, torch.full((batch,), 0.97), pictures[1], config.noise_start

    def run() -> None:
        for _ in range(config.updates_per_agent_step):
            learner.update(*arguments)

    return run
