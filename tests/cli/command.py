"""The command as people run it: `python -m asyncrt` on a test's root, with what it wrote."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, Any, Self

import pytest

from asyncrt.cli import main
from tests.helpers.processes import REPOSITORY
from tests.helpers.records import names

# An init that tells of its start and of signals, and ends by TERM with status 7. It waits for a
# background job because a shell runs traps at once in `wait` only.
TELLS = """
for each in HUP INT USR1 USR2; do trap "echo $each" $each; done
trap 'echo TERM; kill $!; exit 7' TERM
sleep 1000 & echo ready; while :; do wait $!; done
"""


class Running:
    """One run of the command; leaving the `with` block kills and reaps it."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdout(self) -> IO[str]:
        assert self._popen.stdout is not None
        return self._popen.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()
        self._popen.wait()

    def line(self) -> str:
        """The next line of its output, or of its program's. EOFError when there is none."""
        line = self.stdout.readline()
        if not line:
            raise EOFError(f"no more output; it ended with {self.end()}")
        return line.removesuffix("\n")

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def end(self, *, timeout: float = 20.0) -> tuple[int, str, str]:
        """Its status and the rest of what it wrote, once it has ended."""
        out, err = self._popen.communicate(timeout=timeout)
        return self._popen.returncode, out or "", err or ""


class Asyncrt:
    """The command on one root directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def argv(self, *args: object, options: Sequence[str] = ()) -> list[str]:
        """The whole command line; `options` are global ones."""
        return [
            *(sys.executable, "-m", "asyncrt", "--root", self.root),
            *options,
            *map(str, args),
        ]

    def start(
        self,
        *args: object,
        options: Sequence[str] = (),
        stdin: int | IO[str] | None = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Running:
        """Start it and go on."""
        popen = subprocess.Popen(
            self.argv(*args, options=options),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": REPOSITORY, **(env or {})},
            cwd=cwd,
        )
        return Running(popen)

    def __call__(self, *args: object, status: int = 0, **how: Any) -> str:
        """Run it to its end, which must be `status`; what it wrote to stdout."""
        return self.both(*args, status=status, **how)[0]

    def both(self, *args: object, status: int = 0, **how: Any) -> tuple[str, str]:
        """As calling it; what it wrote to stdout and to stderr."""
        with self.start(*args, **how) as running:
            code, out, err = running.end()
        assert code == status, f"{args}: status {code}, not {status}; stderr: {err}"
        return out, err

    def fails(self, *args: object, status: int = 1, **how: Any) -> str:
        """The one line that it fails with."""
        out, err = self.both(*args, status=status, **how)
        assert out == ""
        assert err.startswith("asyncrt: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    def json(self, *args: object) -> Any:
        """What it prints, decoded."""
        return json.loads(self(*args))

    def inside(self, *args: object) -> tuple[int, str, str]:
        """The command run in this process, which is quick; its status, stdout, stderr.

        For what is no test's subject, and for input that is refused before anything happens.
        """
        logger = logging.getLogger()
        handlers, level = logger.handlers[:], logger.level
        out, err = io.StringIO(), io.StringIO()
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                main(["--root", self.root, *map(str, args)])
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)
        status = ended.value.code
        assert isinstance(status, int)
        return status, out.getvalue(), err.getvalue()

    def do(self, *args: object) -> str:
        """Run it inside; it must succeed. What it wrote to stdout."""
        status, out, err = self.inside(*args)
        assert (status, err) == (0, "")
        return out

    def views(self) -> dict[str, dict[str, Any]]:
        """What list says, by id."""
        return {each["id"]: each for each in json.loads(self.do("list", "--format", "json"))}

    def detached(self, id: str, *program: str, options: Sequence[str] = ()) -> None:
        """Leave a program running, for other commands to work on."""
        self.do("run", "--detach", *options, id, "--", *program)

    def left(self) -> list[str]:
        """The names on disk that belong to containers."""
        return names(self.root)


def at_once(asyncrt: Asyncrt, calls: Sequence[tuple[int, Sequence[object]]]) -> list[str]:
    """Run several that fail, two at a time; the line of each. A call: its status, its arguments."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: asyncrt.fails(*call[1], status=call[0]), calls))
