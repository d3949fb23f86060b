"""Two processes that work on an orchestrator's root meanwhile, by the command line only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tests.helpers.processes import Interpreter

_PRELUDE = """
import json, select, subprocess, sys

command = [sys.executable, "-m", "asyncrt", "--root", sys.argv[1]]

def views():
    run = subprocess.run([*command, "list", "--format", "json"], check=True, stdout=subprocess.PIPE)
    found = json.loads(run.stdout)
    for each in found:
        assert each["broken"] is None, each
        assert each["status"] in ("creating", "created", "running", "stopped"), each
    return found

def told_to_end():
    return select.select([0], [], [], 0)[0]
"""

_LISTER = """
times = 0
while not told_to_end():
    views()
    times += 1
print(times)
"""

# A victim that the command says is killed is never killed again: it must not run a second time.
_KILLER = """
victims = set(sys.argv[2:])
while victims and not told_to_end():
    for each in views():
        if each["id"] in victims and each["status"] == "running":
            subprocess.run([*command, "kill", each["id"], "KILL"], check=True)
            victims.remove(each["id"])
print(len(victims))
"""


@contextlib.contextmanager
def meddling(root: str, victims: Sequence[str]) -> Iterator[None]:
    """One process lists all the time, another kills the victims; both must have had success."""
    with (
        Interpreter(_PRELUDE + _LISTER, root) as lister,
        Interpreter(_PRELUDE + _KILLER, root, *victims) as killer,
    ):
        yield
        assert killer.line() == "0"
        assert killer.wait() == 0
        lister.say("enough")
        assert int(lister.line()) > 1
        assert lister.wait() == 0
