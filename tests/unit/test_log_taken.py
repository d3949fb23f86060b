"""From the FIFO into the log, killed at any call: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from asyncrt.supervisor import log_taken
from asyncrt.supervisor.log_files import HEADER_BYTES, LogWriter, generations, name_of
from asyncrt.supervisor.log_taken import Taken

if TYPE_CHECKING:
    from asyncrt.supervisor.log_files import LogOptions

CHUNKS = [
    b"one\ntwo\n",
    b"three",
    b" and a half\n\n\n",
    b"".join(b"line %d\n" % each for each in range(40)),
    b"x" * 300,
    b"\n",
    bytes(range(256)),
    b"no end",
]
WHOLE = b"".join(CHUNKS)

write = os.write  # the workload's, whom nobody kills


class KilledError(BaseException):
    """By SIGKILL: nothing that it would have done is done."""


class Stage:
    """A FIFO with both ends open, as a workload has it, and a directory of logs."""

    def __init__(self, root: str, *, timestamps: bool, max_bytes: int | None) -> None:
        os.mkdir(f"{root}/logs")
        os.mkfifo(f"{root}/fifo")
        self.options: LogOptions = {
            "max_bytes": max_bytes,
            "files": 1000,
            "timestamps": timestamps,
        }
        self.logs = os.open(f"{root}/logs", os.O_RDONLY | os.O_DIRECTORY)
        self.fifo = os.open(f"{root}/fifo", os.O_RDWR | os.O_NONBLOCK)
        self.typed = 0

    def type(self, data: bytes) -> None:
        """The workload writes."""
        if data:
            self.typed += write(self.fifo, data)

    def pump(self, *chunks: bytes) -> None:
        """From beginning to end."""
        writer = LogWriter(self.logs, "stdout", self.options)
        taken = Taken(self.logs, "stdout", writer)
        for each in chunks:
            self.type(each)
            with contextlib.suppress(BlockingIOError):
                while taken.pump(self.fifo):
                    pass
        taken.close()
        writer.close()

    def log(self) -> bytes:
        """What the workload wrote, as the files have it."""
        found = b""
        for each in generations(self.logs, "stdout"):
            fd = os.open(name_of("stdout", each), os.O_RDONLY, dir_fd=self.logs)
            data = os.read(fd, 1 << 20)
            os.close(fd)
            found += _unstamped(data) if self.options["timestamps"] else data
        return found

    def reset(self) -> None:
        """Begin anew."""
        self.typed = 0
        for name in os.listdir(self.logs):
            os.unlink(name, dir_fd=self.logs)

    def close(self) -> None:
        os.close(self.logs)
        os.close(self.fifo)


def _unstamped(data: bytes) -> bytes:
    *lines, torn = data.split(b"\n")
    found = b""
    for line in lines:
        assert line[27:35] == b" stdout "
        ended = line[HEADER_BYTES - 2 : HEADER_BYTES - 1] == b"F"
        found += line[HEADER_BYTES:] + b"\n" * ended
    return found + torn[HEADER_BYTES:]


@pytest.fixture(params=[True, False], ids=["stamped", "raw"])
def timestamps(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[None, 150], ids=["one file", "rotated"])
def stage(root: str, timestamps: bool, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(root, timestamps=timestamps, max_bytes=request.param)
    yield made
    made.close()


def _kill_at(point: int, patch: pytest.MonkeyPatch, *, torn: bool) -> Callable[[], bool]:
    """Die before the nth call that changes anything, or with `torn` within it if it is a write."""
    made = [0]

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] == point and torn and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if made[0] >= point:
                raise KilledError
            return real(*args, **options)

        patch.setattr(os, name, call)

    for name in ("open", "splice", "pwrite", "write", "ftruncate", "unlink", "read"):
        wrap(name)
    return lambda: made[0] >= point


def _close_all(stage: Stage) -> None:
    """What is left open, as the kernel does."""
    below = os.readlink(f"/proc/self/fd/{stage.logs}") + "/"
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(below):
                os.close(fd)


@pytest.mark.leaves
@pytest.mark.parametrize("torn", [False, True])
def test_killed_before_any_call_the_next_pump_goes_on_exactly_there(
    stage: Stage, *, torn: bool
) -> None:
    died: Callable[[], bool] = lambda: True  # noqa: E731 - the first of many
    point = 0
    while died():
        point += 1
        stage.reset()
        with pytest.MonkeyPatch.context() as patch:
            died = _kill_at(point, patch, torn=torn)
            with contextlib.suppress(KilledError):
                stage.pump(*CHUNKS)
        _close_all(stage)
        stage.pump(WHOLE[stage.typed :])
        assert stage.log() == WHOLE, f"killed at call {point}"
        assert log_taken.name_of("stdout") not in os.listdir(stage.logs)
    assert point > 20


@pytest.mark.leaves
def test_a_pump_killed_while_it_goes_on_for_a_killed_one_loses_nothing_either(stage: Stage) -> None:
    for point in range(2, 40):
        stage.reset()
        for each in (point, point // 2, point // 3 + 1):
            with pytest.MonkeyPatch.context() as patch:
                _kill_at(each, patch, torn=True)
                with contextlib.suppress(KilledError):
                    stage.pump(WHOLE[stage.typed :])
            _close_all(stage)
        stage.pump(WHOLE[stage.typed :])
        assert stage.log() == WHOLE, f"killed at call {point}"


@pytest.mark.leaves
@pytest.mark.parametrize("call", ["pwrite", "splice", "ftruncate"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EINVAL])
def test_where_it_cant_be_kept_the_log_is_written_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    real = getattr(os, call)
    refusing = [True]

    def refuse(*args: Any, **options: Any) -> Any:
        if refusing[0]:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(os, call, refuse)
    stage.pump(*CHUNKS)
    assert stage.log() == WHOLE
    stage.reset()
    refusing[0] = False
    stage.pump(*CHUNKS)
    assert stage.log() == WHOLE


@pytest.mark.leaves
def test_a_file_of_an_absurd_number_costs_no_line(stage: Stage) -> None:
    os.close(
        os.open("stdout.9999999999999999999999.log", os.O_CREAT | os.O_WRONLY, dir_fd=stage.logs)
    )
    stage.pump(*CHUNKS)
    assert stage.log() == WHOLE


@pytest.mark.leaves
def test_what_somebody_else_put_in_its_place_is_passed_over(stage: Stage) -> None:
    for content in (b"", b"x" * 10, b"x" * 100, b"1 2\n" * 30):
        stage.reset()
        fd = os.open(log_taken.name_of("stdout"), os.O_WRONLY | os.O_CREAT, dir_fd=stage.logs)
        write(fd, content)
        os.close(fd)
        stage.pump(*CHUNKS)
        assert stage.log() == WHOLE
