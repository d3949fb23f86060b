"""Soak sandboxes with several containers. See `--help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable

from tests.helpers import capabilities, reaping
from tests.helpers.sandboxes import ROOT, USER
from tests.soak import observer, worker
from tests.soak.delegated import run_as
from tests.soak.own import threads_left
from tests.soak.scene import Scene
from tests.soak.soak import TASKS, soak

_HELP = """\
Six processes create, start, pause, kill, export and destroy containers in five sandboxes, on host and
on linux, at random and over each other, while workers, supervisors and gofers are killed. A process that
only looks holds events, records, processes, cgroups and mounts against each other all along; at the end
all is mended and destroyed, and nothing may be left. Prints the seed, and what was wrong with the
operations that led there; the exit status is 0 when nothing was.
"""


def main() -> int:
    """Run it as everybody, or as one; or one of its processes."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=_HELP)
    parser.add_argument("--seconds", type=float, default=1200, help="for all of it (1200)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; default: another one")
    parser.add_argument(
        "--as", dest="who", choices=[ROOT, USER], help="default: one after the other, if possible"
    )
    parser.add_argument("--keep", action="store_true", help="the directory, also when all is well")
    parser.add_argument("--in", dest="directory", help=argparse.SUPPRESS)
    parser.add_argument("--tag", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--observe", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    if given.directory is not None:
        return _take_part(given, seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was begun is cleared away
    everybody = (
        [given.who] if given.who else [each for each in (ROOT, USER) if _lacks(each) is None]
    )
    if not everybody or (lacking := _lacks(everybody[0])):
        print(f"can't soak here: {lacking if everybody else _lacks(USER)}", file=sys.stderr)
        return 2
    seconds = given.seconds / len(everybody)
    return max(_run(each, seconds, seed, keep=given.keep) for each in everybody)


def _lacks(who: str) -> str | None:
    """What is missing for a soak as that one."""
    if who == ROOT:
        if os.geteuid() != 0:
            return "uid 0"
        return None if capabilities.has_cgroups() else "cgroups to make"
    if os.geteuid() == 0 and capabilities.ordinary_user() is None:
        return "an ordinary user to become"
    return None if capabilities.has_userns() else "user namespaces"


def _run(who: str, seconds: float, seed: int, *, keep: bool) -> int:
    user = capabilities.ordinary_user() if who == USER and os.geteuid() == 0 else None
    if user is not None:
        command = [sys.executable, "-B", "-m", "tests.soak", "--as", USER, "--seed", str(seed)]
        command += ["--seconds", str(seconds), *(["--keep"] if keep else [])]
        return run_as(user, command)
    reaping.become_subreaper()
    good, said = soak(who, seconds, seed, _progress(who), keep=keep)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(said, flush=True)
    return 0 if good else 1


def _progress(who: str) -> Callable[[str], None]:
    last = 0.0

    def show(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if sys.stderr.isatty() and now - last > 0.5:
            last = now
            print(f"\r{who}: {text}\033[K", end="", file=sys.stderr, flush=True)

    return show


def _take_part(given: argparse.Namespace, seed: int) -> int:
    scene = Scene(given.directory, given.tag, given.who)
    if given.observe:
        asyncio.run(observer.observe(scene))
        return 0
    faults = asyncio.run(worker.work(scene, given.work, seed, TASKS))
    faults += [] if faults else threads_left()
    for each in faults:
        os.write(1, json.dumps({"wrong": each}).encode() + b"\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
