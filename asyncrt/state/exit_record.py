"""How a container ended, and the file its supervisor leaves about that.

exit.json has one writer, the supervisor, who replaces it durably before it answers any waiter, and
takes no lock. The next verb that holds the container's lock folds it into the record.
"""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from asyncrt import _durable, _json_errors, _paths
from asyncrt.errors import SchemaTooNew, StateCorrupted, StorageFailed

SCHEMA = 1

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ExitResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a container, or a process executed in one, ended.

    `exit_code` is None when a signal ended it or the code is not known; `signal` is that signal's
    number. `oom_killed`: whether the kernel killed any of its processes for want of memory; None when
    that can't be known. `reason` is one of: exit, signal, oom, deadline, lease, sandbox ended, gofer
    died, creation interrupted, start failed, unknown. Times are aware and in UTC; `started_at` is None
    when its program was never started.

    "oom" is a SIGKILL of init's that asyncrt's supervisor didn't send, where the kernel had killed for
    want of memory before. The kernel counts such kills and doesn't say whom they hit (memory.events of
    cgroup-v2.rst): where one hit a child only, and somebody else kills init later, it reads "oom" too.
    """

    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool | None = None
    reason: str = "unknown"
    started_at: Moment | None = None
    finished_at: Moment | None = None

    @property
    def status_code(self) -> int:
        """What a shell would say: the exit code, 128 + signal, or 255 when neither is known."""
        if self.exit_code is not None:
            return self.exit_code
        return 255 if self.signal is None else 128 + self.signal


class _ExitFile(msgspec.Struct, kw_only=True, gc=False):
    schema: int
    instance: str
    exit_code: int | None
    signal: int | None
    oom_killed: bool | None = None
    reason: str
    started_at: Moment | None = None
    finished_at: Moment | None = None


class _SchemaOnly(msgspec.Struct):
    schema: int


_decoder = msgspec.json.Decoder(_ExitFile)
_schema_decoder = msgspec.json.Decoder(_SchemaOnly)


def exit_path(root: str, container_id: str) -> str:
    """Where the exit record of a container is."""
    return f"{root}/{container_id}{_paths.DIRECTORY}/{_paths.EXIT}"


def read_exit(root: str, container_id: str, instance: str) -> ExitResult | None:
    """The exit record of exactly that instance, or None when there is none (yet).

    Also of a container that is being removed, or whose remover was killed. Raises StateCorrupted,
    SchemaTooNew or StorageFailed. Blocks for a short file read, or three.
    """
    for path in (
        exit_path(root, container_id),
        f"{root}/{_paths.being_removed(container_id)}/{_paths.EXIT}",
        f"{root}/{_paths.last_exit(container_id)}",
    ):  # in the order in which a removal moves it
        found = _read(path)
        if found is not None and found[0] == instance:
            return found[1]
    return None


def _read(path: str) -> tuple[str, ExitResult] | None:
    """The instance that the exit record belongs to, and the record; None when there is none."""
    try:
        data = _durable.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        found = _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise undecodable(path, data, error, SCHEMA) from error
    if found.schema > SCHEMA:
        raise SchemaTooNew(path=path, schema=found.schema, supported=SCHEMA)
    return found.instance, ExitResult(
        exit_code=found.exit_code,
        signal=found.signal,
        oom_killed=found.oom_killed,
        reason=found.reason,
        started_at=found.started_at and utc(found.started_at),
        finished_at=found.finished_at and utc(found.finished_at),
    )


def utc(moment: datetime) -> datetime:
    """The same moment, in UTC."""
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def unreadable(path: str, error: OSError) -> StateCorrupted | StorageFailed:
    """The error for a file that is there but can't be read: of a wrong kind, or the disk's fault."""
    if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        return StateCorrupted(path=path, why="it is not a regular file")
    return StorageFailed(path=path, errno=error.errno or errno.EIO)


def undecodable(
    path: str, data: bytes, error: Exception, supported: int
) -> StateCorrupted | SchemaTooNew:
    """The error for content that doesn't decode: of a newer schema, or broken and why."""
    try:
        schema = _schema_decoder.decode(data).schema
    except (msgspec.DecodeError, ValueError, RecursionError):
        schema = 0
    if schema > supported:
        return SchemaTooNew(path=path, schema=schema, supported=supported)
    well_formed = isinstance(error, msgspec.ValidationError)
    why = str(error) if well_formed else _json_errors.malformed(error, data)
    return StateCorrupted(path=path, why=why if data else "it is empty")
