"""The main job: real jobs for the README's orchestrator, and the truth about how each one ends.

A job is what that script reads, plus what it has to find out. No record of ours is read here: the
programs themselves note in a ledger that they run, and the kernel says what is left.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import lzma
import os
import shutil
import sys
import sysconfig
import zlib
from collections import Counter
from collections.abc import Callable
from glob import glob
from itertools import cycle
from typing import Any, NamedTuple

from tests.helpers import reality
from tests.helpers.records import names

_NOTED = 'printf "%s\\n" "$1" >>"$2"; shift 2; exec "$@"'
_TREE = 'trap "" TERM; sleep 1000 & sleep 1000'
_PYTHON = (sys.executable, "-I", "-S", "-c")
_ZLIB = "import sys, zlib; sys.stdout.buffer.write(zlib.compress(open(sys.argv[1], 'rb').read()))"
_SHA256 = "import sys, hashlib; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
_COUNT = (
    "import sys; print(open(sys.argv[1], 'rb').read().count(b'\\n')); sys.exit(int(sys.argv[2]))"
)


class Job(NamedTuple):
    """What the orchestrator is given, what it has to say at the end, and what the output must be.

    `must_run`: its program certainly gets as far as the ledger. `is_victim`: it runs until another
    process kills it.
    """

    given: dict[str, Any]
    outcome: dict[str, Any]
    is_output: Callable[[bytes], bool] | None = None
    must_run: bool = True
    is_victim: bool = False

    @property
    def name(self) -> str:
        name: str = self.given["name"]
        return name


class Work:
    """So many jobs of all kinds, always the same ones, with their files in `directory`."""

    def __init__(self, directory: str, count: int) -> None:
        self.mark = os.path.basename(directory)
        self.jobs_path = f"{directory}/jobs.json"
        self.results_path = f"{directory}/results"
        self._directory = directory
        self._ledger = f"{directory}/ledger"
        kinds = cycle(self._kinds())
        self.jobs = [next(kinds)(number) for number in range(count)]
        with open(self.jobs_path, "w") as file:
            json.dump([job.given for job in self.jobs], file)

    def victims(self) -> list[str]:
        """The names of the jobs that somebody else has to kill."""
        return [job.name for job in self.jobs if job.is_victim]

    def written(self) -> int:
        """How many results there are by now."""
        try:
            with open(self.results_path, "rb") as file:
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0

    def check(self, root: str) -> None:
        """Every end is right and told once, every output whole, nothing ran twice, nothing is left."""
        _same("left on disk", names(root), [])
        _same("left running", reality.settles(lambda: reality.marked([self.mark])), None)
        with open(self.results_path) as file:
            told = [json.loads(line) for line in file]
        expected = {job.name: {"name": job.name, **job.outcome} for job in self.jobs}
        _same("wrong", [each for each in told if each != expected.get(each["name"])], [])
        times = Counter(each["name"] for each in told)
        _same("not told once", [name for name in expected if times[name] != 1], [])
        for job in self.jobs:
            if job.is_output is not None:
                with open(job.given["output"], "rb") as output:
                    _same(f"whole output of {job.name}", job.is_output(output.read()), True)
        with open(self._ledger) as file:
            ran = Counter(file.read().split())
        _same("ran twice", [name for name in ran if ran[name] > 1], [])
        _same("never ran", [job.name for job in self.jobs if job.must_run > ran[job.name]], [])

    def _job(self, number: int, *args: str, **more: Any) -> dict[str, Any]:
        name = f"job-{number}"  # an id that is the beginning of another: on purpose
        noted = ["/bin/sh", "-c", _NOTED, "sh", name, self._ledger, *args]
        output = f"{self._directory}/{name}.out"
        env = reality.marking(self.mark)
        return {"name": name, "args": noted, "output": output, "env": env, **more}

    def _kinds(self) -> list[Callable[[int], Job]]:
        """Half of them compress, a quarter compute, the others come to a bad end."""
        first = [
            *(self._compressing, self._computing, self._compressing, self._failing),
            *(self._compressing, self._late, self._compressing, self._computing),
            *(self._compressing, self._victim, self._compressing, self._failing),
            *(self._compressing, self._cancelled, self._compressing, self._computing),
            *(self._compressing, self._failing, self._compressing, self._computing),
        ]
        # Few victims: to kill one takes two commands, each with an interpreter to start.
        return first + [self._failing if kind == self._victim else kind for kind in first]

    def _compressing(self, number: int) -> Job:
        path = _real_file(number)
        ways: list[tuple[list[str], Callable[[bytes], bytes]]] = [
            (["gzip", "-c"], gzip.decompress),
            ([*_PYTHON, _ZLIB], zlib.decompress),
        ]
        if shutil.which("xz"):
            ways.append((["xz", "-0", "-c"], lzma.decompress))
        args, undo = ways[number // 2 % len(ways)]
        return Job(
            self._job(number, *args, path), _exited(0), lambda data: undo(data) == _content(path)
        )

    def _computing(self, number: int) -> Job:
        path = _real_file(number)
        digest = f"{hashlib.sha256(_content(path)).hexdigest()}\n".encode()
        return Job(
            self._job(number, *_PYTHON, _SHA256, path), _exited(0), lambda data: data == digest
        )

    def _failing(self, number: int) -> Job:
        path = _real_file(number)
        lines = b"%d\n" % _content(path).count(b"\n")
        code = number % 100 + 2
        ways = [
            Job(
                self._job(number, *_PYTHON, _COUNT, path, str(code)),
                _exited(code),
                lambda data: data == lines,
            ),
            Job(self._job(number, "gzip", "-qc", "/nowhere"), _exited(1)),
            Job(self._job(number, "/bin/sh", "-c", "kill -USR1 $$"), _signalled(10)),
            Job(
                {**self._job(number), "args": ["/nowhere/program"]},
                {"reason": "start failed", "errno": 2},
                must_run=False,
            ),
        ]
        return ways[number // 4 % len(ways)]

    def _late(self, number: int) -> Job:
        given = self._job(number, "/bin/sh", "-c", _TREE, deadline=0.3)
        return Job(given, {"reason": "deadline", "code": None, "signal": 9}, must_run=False)

    def _cancelled(self, number: int) -> Job:
        given = self._job(number, "/bin/sh", "-c", _TREE, patience=0.3)
        return Job(given, {"reason": "cancelled"}, must_run=False)

    def _victim(self, number: int) -> Job:
        given = self._job(number, "sleep", "1000")
        return Job(given, _signalled(9), must_run=False, is_victim=True)


def _same(what: str, found: object, expected: object) -> None:
    assert found == expected, f"{what}: {found!r}"


def _exited(code: int) -> dict[str, Any]:
    return {"reason": "exit", "code": code, "signal": None}


def _signalled(number: int) -> dict[str, Any]:
    return {"reason": "signal", "code": None, "signal": number}


@functools.cache
def _files() -> list[str]:
    """The source files of Python's standard library: real, everywhere, of all sizes."""
    found = sorted(glob(f"{sysconfig.get_path('stdlib')}/**/*.py", recursive=True))
    return [path for path in found if "site-packages" not in path and os.path.getsize(path) > 0]


def _real_file(number: int) -> str:
    return _files()[number * 7 % len(_files())]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
