"""Sweeps over a command that takes a moment."""

import pytest
from sweeping import Sweeping


@pytest.fixture
def sweeping(tmp_path):
    return lambda **changes: Sweeping(tmp_path / "sweep", **changes)
