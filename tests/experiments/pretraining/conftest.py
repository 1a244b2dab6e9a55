"""A data set shared by the tests of training on one."""

import pytest
from noise_data import write_set


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data") / "set")
