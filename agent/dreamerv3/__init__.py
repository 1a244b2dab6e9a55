"""DreamerV3 (Hafner et al., 2023): the baseline, with the published sizes, formulas and settings."""

from agent.dreamerv3.config import SIZES, DreamerConfig, LaPropConfig
from agent.dreamerv3.loop import DreamerV3

__all__ = ["SIZES", "DreamerConfig", "DreamerV3", "LaPropConfig"]
