"""All that is under a root at one look: every record with what is true of it, and every name.

Reads what a list reads, takes no lock and changes nothing.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _paths, _procid
from asyncrt.errors import AsyncrtError, SchemaTooNew, StateCorrupted, StorageFailed
from asyncrt.ids import ContainerId, is_id
from asyncrt.state import listing
from asyncrt.state.exit_record import unreadable
from asyncrt.state.reality import settle
from asyncrt.state.record import decode, record_path

if TYPE_CHECKING:
    from asyncrt.state.reality import Observed
    from asyncrt.state.record import Record

_FILES = (_paths.STATE, _paths.LOCK, _paths.QUEUE, _paths.DIRECTORY)
_VACANT = (_paths.LOCK, _paths.QUEUE, _paths.DIRECTORY)
_ASIDE = (_paths.STATE, _paths.DIRECTORY, _paths.LAST_EXIT)  # of ".ID.d~" and its like
_ROOT_WIDE = {_paths.EVENTS, _paths.EVENTS_OLD, _paths.EVENTS_LOCK}

_RANDOM = re.compile(r"(.+)\.[0-9a-f]{12}")  # as _paths.temporary makes it


class Survey(NamedTuple):
    """What was there: containers by id, why others can't be read, and the root's names."""

    containers: dict[ContainerId, tuple[Record, Observed]]
    broken: dict[ContainerId, AsyncrtError]
    names: set[str]


def survey(root: str) -> Survey:
    """Look at everything. Raises StorageFailed when the root can't be read.

    Blocks for a read of each record.
    """
    directory = listing._open_root(root)  # noqa: SLF001 - the same way of looking
    try:
        names = listing._names(root, directory)  # noqa: SLF001 - likewise
        with_state, only_lock = listing._candidates(names)  # noqa: SLF001 - likewise
        namespace = _procid.pid_namespace()
        found = Survey({}, {}, set(names))
        for container_id in sorted(with_state + only_lock):
            try:
                data = listing._read(directory, container_id + _paths.STATE)  # noqa: SLF001 - likewise
                record = decode(data, root, container_id)
                found.containers[container_id] = settle(root, record, namespace)
            except FileNotFoundError:  # ContainerNotFound is one
                continue
            except (StateCorrupted, SchemaTooNew, StorageFailed) as error:
                found.broken[container_id] = error
            except OSError as error:
                found.broken[container_id] = unreadable(record_path(root, container_id), error)
        return found
    finally:
        os.close(directory)


class Rest(NamedTuple):
    """Names that are no part of a container: of which id each would be, if of any."""

    vacant: dict[ContainerId, list[str]]  # an id without a record
    temporary: dict[ContainerId, list[str]]  # an id with one
    events: list[str]  # temporary files of those who begin or rotate the log
    foreign: list[str]


def rest_of(found: Survey) -> Rest:
    """What a survey found besides the containers' own files."""
    there = (*found.containers, *found.broken)
    own = {container_id + suffix for container_id in there for suffix in _FILES}
    rest = Rest({}, {}, [], [])
    for name in sorted(found.names - own - _ROOT_WIDE):
        _sort(name, found, rest)
    return rest


def _sort(name: str, found: Survey, rest: Rest) -> None:
    if name.startswith(".") and name.endswith("~"):
        inner = name[1:-1]
        random = _RANDOM.fullmatch(inner)
        if random is not None:
            inner = random[1]
        if inner in _ROOT_WIDE:
            rest.events.append(name)
            return
        suffix = next((each for each in _ASIDE if inner.endswith(each)), "")
        stem = inner.removesuffix(suffix)  # no other: an id may end like one
        if is_id(stem) and (random is not None or stem != inner):
            container_id = ContainerId(stem)
            there = container_id in found.containers or container_id in found.broken
            kind = rest.temporary if there else rest.vacant
            kind.setdefault(container_id, []).append(name)
            return
    for suffix in _VACANT:
        stem = name.removesuffix(suffix)
        if stem != name and is_id(stem):
            rest.vacant.setdefault(ContainerId(stem), []).append(name)
            return
    stem = name.removesuffix(_paths.STATE)
    if stem == name or not is_id(stem):  # else its container went while we looked
        rest.foreign.append(name)
