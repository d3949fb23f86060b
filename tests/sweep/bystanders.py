"""What has to be so of a sandbox of several whatever became of one of its containers.

The others run on as the same processes, everything there belongs to a container that a record tells
of, and who is a member says the same as the records do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.state import look, survey
from tests.helpers import reality
from tests.sweep import boxes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncrt.state import Record


class Bystanders:
    """Containers that run, as they were when this was made."""

    def __init__(self, root: str, ids: Iterable[str]) -> None:
        self._root = root
        self._before = {each: self._look(each) for each in ids}

    def _look(self, id: str) -> tuple[object, ...]:
        """Its status, instance and init, and where that is; two equal ones are the same, untouched."""
        try:
            record, observed = look(self._root, id)
        except FileNotFoundError:
            return ("gone",)
        init = record.init
        seen = None if init is None else reality.look(init.pid)
        cgroups = "" if seen is None else _read(f"/proc/{seen.pid}/cgroup")
        return str(observed.status), record.instance, init, seen and seen.role, cgroups

    def touched(self) -> list[str]:
        """Those of which something is otherwise by now."""
        return [
            f"{id} was {before}, is {now}"
            for id, before in self._before.items()
            if (now := self._look(id)) != before
        ]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def orphans(root: str) -> list[str]:
    """What runs for a container that isn't there, as no record tells of it."""
    records = _records(root)
    known = {each.pid for record in records for each in (record.init, record.gofer) if each}
    ids = {record.id for record in records}
    return [
        f"orphan {each}"
        for each in reality.below()
        if (each.comm in {_paths.GATE_COMM, _paths.GOFER_COMM} and each.pid not in known)
        or (each.mark and each.role not in ids)
    ]


def strays(root: str, sandbox_id: str) -> list[str]:
    """Members, cgroups and layers that are no container's; for after a recovery."""
    records = [each for each in _records(root) if each.sandbox == sandbox_id]
    members = f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.MEMBERS}"
    expected = {each.id for each in records if each.id != sandbox_id}
    found = [
        f"member {each}"
        for each in (set(os.listdir(members)) ^ expected if os.path.isdir(members) else ())
    ]
    cgroups = {path for record in records for path in record.cgroups}
    for record in records:
        if record.id == sandbox_id:
            found += [f"cgroup {each}" for each in _below(record) if each not in cgroups]
    layers = {record.layer for record in records}
    beside = boxes.layers_beside(root)
    found += [
        f"layer {name}"
        for name in boxes.strange_layers(root)
        if os.path.join(beside, name) not in layers
    ]
    return found


def _records(root: str) -> list[Record]:
    return [record for record, _ in survey(root).containers.values()]


def _below(record: Record) -> list[str]:
    """The cgroups in those that the root container's are in, in every hierarchy."""
    above = {os.path.dirname(each.path) for each in record.cgroup}
    return [
        entry.path
        for path in above
        if path in record.cgroups and os.path.isdir(path)
        for entry in os.scandir(path)
        if entry.is_dir()
    ]
