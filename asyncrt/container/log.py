"""Log: how a workload's output is kept, and what is made for it on disk before the workload is."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _durable, _paths
from asyncrt.errors import SpecInvalid
from asyncrt.supervisor.log_files import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's output goes into files, read by Container.logs until the container is destroyed.

    `max_bytes` and `files` bound what is kept of a stream: so many files of at most so many bytes
    each (one longer line apart); what is older is removed. `max_bytes=None` keeps everything, in
    one file. With `timestamps` each line is stored with the time it came at, in the format of
    Kubernetes' CRI; without them the bytes are stored as they are, which is faster and smaller.
    """

    max_bytes: int | None = 10 * 1024 * 1024
    files: int = 5
    timestamps: bool = True

    def __post_init__(self) -> None:
        for name, value in (("max_bytes", self.max_bytes), ("files", self.files)):
            if value is None and name == "max_bytes":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpecInvalid(
                    json_path="", why=f"{name} of a log is {value!r}, must be a number from 1 on"
                )


LOG = Log()
"""The default Log: with timestamps, five files of 10 MiB for each stream."""


def make_logs(directory: int, logs: Mapping[int, Log], *, fifos: bool = True) -> list[int]:
    """Make FIFOs and `logs/` in the open directory; the FIFOs, open as the workload is to have them.

    `logs` has the streams by number. Without `fifos` what is logged comes from a terminal. Raises
    OSError; nothing is open then.
    """
    os.mkdir(_paths.LOGS, 0o700, dir_fd=directory)
    names = {number: name for name, number in NUMBERS.items()}
    options = {names[number]: msgspec.to_builtins(each) for number, each in logs.items()}
    fd = os.open(_paths.LOGS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        # Not synced: what a power loss leaves of a container is never started again.
        _durable.replace(fd, _paths.LOG_OPTIONS, json.dumps(options).encode(), durable=False)
    finally:
        os.close(fd)
    opened: list[int] = []
    try:
        for number in logs if fifos else ():
            os.mkfifo(_paths.fifo(names[number]), 0o600, dir_fd=directory)
            opened.append(open_fifo(names[number], directory))
    except BaseException:
        close_all(opened)
        raise
    return opened


def open_fifo(stream: str, directory: int) -> int:
    """A stream's FIFO as a workload has it: for both ways, so that it never gets a SIGPIPE."""
    return os.open(_paths.fifo(stream), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def close_all(fds: Sequence[int]) -> None:
    """Close each."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
