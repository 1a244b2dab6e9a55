"""What is planned, how, and for how long: the settings behind the names that a user types."""

from __future__ import annotations

import dataclasses

from agent.planning import Cost, PlannerConfig
from tokenizer.limits import require_at_least


@dataclasses.dataclass(frozen=True)
class PlanningProtocol:
    """Episodes towards a goal each; an episode ends where it succeeds, or after `agent_steps`."""

    planner: PlannerConfig
    cost: Cost = Cost()
    goal: str = "expert"  # or "recorded", or a picture's file
    goal_agent_steps: int = 25  # how far ahead a recorded goal is
    agent_steps: int = 100
    episodes: int = 96
    seed: int = 0
    agreement: int = 0  # candidates of each plan that are also tried in the simulator; 0: none

    def __post_init__(self):
        require_at_least(1, self, "agent_steps", "episodes", "goal_agent_steps")
        require_at_least(0, self, "seed", "agreement")


PUBLISHED = PlanningProtocol(PlannerConfig())
"""As joint-embedding planners are compared on Meta-World's reach and reach-wall: DINO-WM succeeds in 44.8% and 35.1%,
JEPA-WM in 58.2% and 41.6%. Their agent steps are of other lengths than ours. Two CPU cores need hours for it."""

LAPTOP = PlanningProtocol(
    PlannerConfig(
        samples=64, elites=8, iterations=3, horizon=5, execute=2, hold_agent_steps=2, initial_std=1.5, min_std=0.1,
        momentum=0.1,
    ),
    episodes=20,
)  # fmt: skip
"""A plan took 0.8 to 1.9 s of a shared core with the bundled checkpoint (experiments/results/planning.csv)."""

SIMULATOR = dataclasses.replace(
    LAPTOP, planner=dataclasses.replace(LAPTOP.planner, samples=16, elites=3, iterations=3, horizon=3)
)
"""As laptop, with 48 shorter candidates a plan in place of 192: the simulator plays and draws each of them."""

PUSHT_STD = 0.5
"""Of a search's first actions: that of the recorded ones. stable-worldmodel begins with 1, of normalised actions."""

PUSHT = PlanningProtocol(
    PlannerConfig(samples=300, elites=30, iterations=30, horizon=25, execute=25, initial_std=PUSHT_STD),
    goal="recorded", agent_steps=50, episodes=50,
)  # fmt: skip
"""As stable-worldmodel plans on PushT: a goal 25 steps ahead in a recorded episode, 50 steps to get there, plans of
five blocks of five actions, carried out whole. Published: DINO-WM 74%, PLDM 78%, LeWM 96%, on episodes of an expert;
ours are of its policy that collects data at random."""

PUSHT_LAPTOP = dataclasses.replace(
    PUSHT, planner=dataclasses.replace(LAPTOP.planner, initial_std=PUSHT_STD), episodes=20
)
"""The same goals with the search of `laptop`, which looks 10 steps ahead in place of 25."""

DEBUG = PlanningProtocol(
    PlannerConfig(samples=4, elites=2, iterations=2, horizon=2, execute=1),
    goal_agent_steps=2,
    agent_steps=2,
    episodes=2,
)
"""For tests: every part in seconds."""

PRESETS = {
    "laptop": LAPTOP,
    "simulator": SIMULATOR,
    "published": PUBLISHED,
    "pusht": PUSHT,
    "pusht-laptop": PUSHT_LAPTOP,
    "debug": DEBUG,
}

MPPI_TEMPERATURE = 0.5
"""Of the elites' standard deviation of cost; twice as many elites as CEM has count then."""


def as_mppi(planner: PlannerConfig) -> PlannerConfig:
    """The same search, with elites weighed by what they cost."""
    return dataclasses.replace(planner, temperature=MPPI_TEMPERATURE, elites=min(2 * planner.elites, planner.samples))


METHODS = {"cem": lambda planner: planner, "mppi": as_mppi}
