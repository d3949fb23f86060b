"""A sample of the soak (`python -m tests.soak`): whatever is killed when, nothing is lost or left."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import ROOT, USER

_SEED = 20260101
_ENDING_SECONDS = 400  # a net: what was begun comes to its end, all is mended and destroyed


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.needs_program("busybox")
@pytest.mark.parametrize(
    ("who", "seconds"),
    [
        pytest.param(ROOT, 30, marks=[pytest.mark.needs_root, pytest.mark.needs_cgroups]),
        pytest.param(USER, 20, marks=[pytest.mark.needs_root, pytest.mark.needs_userns]),
    ],
)
def test_shared_sandboxes_outlive_whoever_is_killed(who: str, seconds: int, full: bool) -> None:
    """On host and on linux, and as an ordinary user. What it found is in its output."""
    seconds = 300 if full else seconds
    command = [sys.executable, "-B", "-m", "tests.soak", "--as", who, "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, "--seed", str(_SEED)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=seconds + _ENDING_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
