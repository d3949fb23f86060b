"""The record of a container: what ROOT/ID.state holds.

JSON, replaced whole, small. Fields that this version doesn't know survive its rewriting: on the top
level always, and inside a nested object as long as the object itself isn't changed. Only a reader
that is going to write pays for that; the others decode straight into the struct.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Literal

import msgspec

from asyncrt import _durable, _paths, _procid
from asyncrt.errors import ContainerNotFound, SchemaTooNew, StateCorrupted
from asyncrt.state.exit_record import ExitResult, Moment, undecodable, unreadable
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = 1


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a process is, beyond its pid (see asyncrt._procid, which works on these)."""

    pid: int
    start: int
    boot: str
    pidns: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a living process, or None if it is gone."""
        found = _procid.facts(pid)
        return None if found is None else msgspec.convert(found, cls)


class CgroupPlace(msgspec.Struct, frozen=True, gc=False):
    """A cgroup that a container's processes are in: its directory, and the inode that proves it."""

    path: str
    inode: int


HookProgress = Literal["pending", "begun", "done"]


class Deletion(msgspec.Struct, frozen=True, gc=False):
    """A deletion that has begun; files go last, so whoever finds this finishes it.

    `poststop` has one entry per poststop hook, in the spec's order. A hook that is done isn't run
    again, one that was begun is.
    """

    poststop: tuple[HookProgress, ...] = ()

    def with_hook(self, index: int, progress: HookProgress) -> Deletion:
        """The same with one hook's progress changed."""
        hooks = list(self.poststop)
        hooks[index] = progress
        return Deletion(poststop=tuple(hooks))


class Leased(msgspec.Struct, frozen=True, gc=False):
    """That it has a lease: the seconds it may outlive its owner, and which processes own it.

    More than one while it is being taken over: who was killed in the middle of that may or may not
    have become its owner.
    """

    grace: float
    owners: tuple[Identity, ...]


class Record(msgspec.Struct, kw_only=True, gc=False):
    """What is known of one container. Its nested values are frozen: replace, don't change them.

    `revision` counts saves and belongs to StateFile. `paused_from` is set while paused. `owner` is
    the user name of `uid`, who created it. `hooks` has the kinds of hooks that its config has, so
    that the config needn't be read to learn that there are none; `logs` the streams that go to a
    log. `cgroups` are the directories that were made for it, or will be, while it is being created;
    `cgroup` is where its processes are, first the one in which all of it is frozen and killed.
    `gofer` holds what it writes, if that is a layer of its own; `layer` is the directory that was made
    for that, or will be. `terminal`: its supervisor has one that clients attach to. `unpivoted`: the
    host's root file system is still there below its own. `lease` says who will see to its removal,
    where that isn't simply somebody. `oom_score_adj` is what it counts with in its sandbox, if it does.
    `exit` is set once it is stopped;
    `exit.reason` says why. `protocol` is the one that its supervisor speaks (asyncrt.launch.frames):
    the engine that made it may be older or newer than the one that reads this. Moments are aware and in UTC.
    """

    schema: int = SCHEMA
    revision: int = 0
    id: str
    instance: str
    sandbox: str
    status: Status
    paused_from: Status | None = None
    created_at: Moment
    started_at: Moment | None = None
    owner: str
    uid: int
    bundle: str | None = None
    platform: str
    supervision: Literal["own", "caller"] = "own"
    creator: Identity | None = None
    init: Identity | None = None
    supervisor: Identity | None = None
    gofer: Identity | None = None
    cgroups: tuple[str, ...] = ()
    cgroup: tuple[CgroupPlace, ...] = ()
    layer: str | None = None
    hooks: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    terminal: bool = False
    unpivoted: bool = False
    protocol: int = 1
    oom_score_adj: int | None = None
    lease: Leased | None = None
    deletion: Deletion | None = None
    exit: ExitResult | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def record_path(root: str, container_id: str) -> str:
    """Where the record of a container is."""
    return f"{root}/{container_id}{_paths.STATE}"


def read_record(root: str, container_id: str) -> Record:
    """The record as of now; takes no lock, since every read is a complete snapshot.

    Raises ContainerNotFound, StateCorrupted, SchemaTooNew or StorageFailed. Blocks for one short
    file read.
    """
    data = read_data(root, container_id)
    if data is None:
        raise ContainerNotFound(container_id=container_id, root=root)
    return decode(data, root, container_id)


def exists(root: str, container_id: str) -> bool:
    """Whether there is a record, broken or not; doubt counts as yes. Blocks for one stat."""
    try:
        os.lstat(record_path(root, container_id))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def read_data(root: str, container_id: str) -> bytes | None:
    """The record's bytes, not looked at; None when there is no container."""
    return _read_with(_durable.read, root, container_id)


def read_cached_data(root: str, container_id: str) -> bytes | None:
    """The same without waiting for a disk; None also when that can't be had."""
    return _read_with(_durable.read_cached, root, container_id)


def _read_with(read: Callable[[str], bytes | None], root: str, container_id: str) -> bytes | None:
    path = record_path(root, container_id)
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def decode(data: bytes, root: str, container_id: str) -> Record:
    """The record in the content of a container's state file, or an error that names the file."""
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise undecodable(record_path(root, container_id), data, error, SCHEMA) from error
    if record.schema != SCHEMA:
        path = record_path(root, container_id)
        if record.schema > SCHEMA:
            raise SchemaTooNew(path=path, schema=record.schema, supported=SCHEMA)
        raise StateCorrupted(path=path, why=f"there is no schema {record.schema} - at `$.schema`")
    if record.id != container_id:
        raise StateCorrupted(
            path=record_path(root, container_id),
            why=f"it is the record of container {record.id!r} - at `$.id`",
        )
    return record


class Original:
    """A loaded record that holds what this version doesn't know, kept for writing it back."""

    __slots__ = ("_raw", "_record")

    def __init__(self, raw: dict[str, msgspec.Raw], record: Record) -> None:
        """Keep each field's own JSON, and `record` as it is now."""
        self._raw = raw
        self._record = copy.copy(record)

    @classmethod
    def of(cls, data: bytes, record: Record) -> Original | None:
        """What has to be kept of `data`, which decoded to `record`; mostly nothing."""
        # What this version wrote itself holds nothing unknown: the usual case, and a cheap test.
        if _encoder.encode(record) == data:
            return None
        return cls(_raw_decoder.decode(data), record)

    def encode(self, record: Record) -> bytes:
        """`record` as JSON, with every value that is as it was loaded kept as it stood."""
        merged: dict[str, object] = dict(self._raw)
        for name in record.__struct_fields__:
            value = getattr(record, name)
            if name not in merged or value != getattr(self._record, name):
                merged[name] = value
        return _encoder.encode(merged)


def encode(record: Record) -> bytes:
    """A new record as JSON."""
    return _encoder.encode(record)
