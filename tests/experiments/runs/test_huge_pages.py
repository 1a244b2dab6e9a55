"""Large pages are asked for once, where asking helps, and never against somebody's own setting."""

import os
import subprocess
import sys

import pytest

from experiments.runs.huge_pages import KERNEL, LARGE, SETTING, asked_for


@pytest.fixture
def kernel(tmp_path):
    """A file as the kernel's, which waits to be asked."""
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_they_are_asked_for_where_the_kernel_waits_to_be_asked(kernel):
    assert asked_for({"HOME": "/"}, kernel) == {"HOME": "/", SETTING: LARGE}
    kernel.write_text("[always] madvise never\n")
    assert asked_for({}, kernel) is None
    assert asked_for({}, kernel.with_name("missing")) is None


@pytest.mark.parametrize("own", ["", LARGE, "glibc.malloc.check=1"])
def test_an_own_setting_stays(kernel, own):
    assert asked_for({SETTING: own}, kernel) is None


def test_a_command_that_began_again_does_what_was_typed():
    environment = {name: value for name, value in os.environ.items() if name != SETTING}
    command = [sys.executable, "-X", "utf8", "-m", "experiments.cli", "tasks"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    plain = subprocess.run(command, env={**environment, SETTING: ""}, capture_output=True, text=True, check=True).stdout
    assert "handle-press" in said.split()
    assert said == plain


@pytest.mark.skipif(asked_for({}) is None, reason=f"the kernel gives large pages always or never ({KERNEL})")
def test_a_command_begins_again_with_them():
    program = (
        "import os; from experiments.runs.huge_pages import restart_with_them; restart_with_them(); "
        f"print(os.environ['{SETTING}'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != SETTING}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == LARGE
