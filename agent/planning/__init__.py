"""Acting by imagining: candidates tried in a model, the best of them improved, the first actions carried out."""

from agent.planning.config import PlannerConfig
from agent.planning.costs import COSTS, Cost, Goal
from agent.planning.models import (
    CopyLastFutures,
    LearnedFutures,
    Moment,
    PlanningModel,
    Previewed,
    RandomPlans,
    SimulatorFutures,
    goal_of,
)
from agent.planning.search import Elites, Plan, Proposal, begin, search, search_on_host, shift

__all__ = [
    "COSTS",
    "CopyLastFutures",
    "Cost",
    "Elites",
    "Goal",
    "LearnedFutures",
    "Moment",
    "Plan",
    "PlannerConfig",
    "PlanningModel",
    "Previewed",
    "Proposal",
    "RandomPlans",
    "SimulatorFutures",
    "begin",
    "goal_of",
    "search",
    "search_on_host",
    "shift",
]
