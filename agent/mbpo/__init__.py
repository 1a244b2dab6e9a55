"""Model-based policy optimisation: DrQ-v2 taught by an interactive world model as well as by real episodes."""

from agent.mbpo.loop import MBPO, MBPOConfig, ModelSchedule

__all__ = ["MBPO", "MBPOConfig", "ModelSchedule"]
