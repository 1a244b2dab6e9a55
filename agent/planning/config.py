"""How a planner searches: one frozen dataclass for both methods."""

from __future__ import annotations

import dataclasses

from tokenizer.limits import require_at_least, require_positive, require_shares


@dataclasses.dataclass(frozen=True)
class PlannerConfig:
    """The defaults are those with which joint-embedding planners are compared on Meta-World: CEM, 300 samples, 10
    elites, 15 iterations, horizon 6, 3 actions executed before the next plan.

    A planned action is held for `hold_agent_steps` (elsewhere: frame skip); horizon and execute count planned actions.
    """

    samples: int = 300
    elites: int = 10
    iterations: int = 15
    horizon: int = 6
    execute: int = 3
    hold_agent_steps: int = 1
    initial_std: float = 1.0
    min_std: float = 0.0
    momentum: float = 0.0  # share of the mean and spread of before that an iteration keeps
    noise_exponent: float = 0.0  # of the noise's spectrum over the horizon: 0 is white, higher is smoother (iCEM)
    temperature: float | None = None  # MPPI: in standard deviations of the elites' costs; None, CEM: elites count alike
    warm_start: bool = True  # begin with the rest of the plan before

    def __post_init__(self):
        require_at_least(1, self, "samples", "elites", "iterations", "horizon", "execute", "hold_agent_steps")
        require_at_least(0, self, "min_std", "noise_exponent")
        require_positive(self, "initial_std")
        require_shares(self, "momentum")
        if self.temperature is not None:
            require_positive(self, "temperature")
        if self.elites > self.samples:
            raise ValueError(f"{self.elites} elites of {self.samples} samples: expected at most as many")
        if self.execute > self.horizon:
            raise ValueError(f"a plan of {self.horizon} actions cannot have {self.execute} executed: lower execute")

    @property
    def agent_steps(self) -> int:
        """How far ahead a plan looks."""
        return self.horizon * self.hold_agent_steps
