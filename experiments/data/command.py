"""`ivideogpt convert-data`, `collect-data` and `collect-demos`."""

from experiments.data.collect_command import collect_data, collect_demos
from experiments.data.convert_command import convert_data

__all__ = ["collect_data", "collect_demos", "convert_data"]
