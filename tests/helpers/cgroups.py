"""Cgroups for tests: specs that ask for them, made-up machines, what is there, what is left."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import asyncrt
from asyncrt import _cgroups
from asyncrt.platforms.cgroups.machine import Hierarchy, Machine, discover
from tests.helpers.containers import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.capabilities import User

_numbers = itertools.count()


def limited(spec: asyncrt.Spec, path: str | None = None, **resources: Any) -> asyncrt.Spec:
    """The spec with `linux.resources`, and `cgroupsPath` if given."""
    config = json.loads(spec.encoded())
    linux: dict[str, Any] = {"resources": resources}
    if path is not None:
        linux["cgroupsPath"] = path
    return asyncrt.Spec.decode(json.dumps({**config, "linux": linux}).encode())


def unique() -> str:
    """A cgroupsPath that nobody else on this machine uses."""
    return f"/asyncrt-test-{os.getpid()}-{next(_numbers)}"


def made_for(container: asyncrt.Container, root: str) -> tuple[str, ...]:
    """The directories that its record says were made."""
    made = record_of(container, root).cgroups
    assert made
    assert all(map(os.path.isdir, made))
    return made


def where(container: asyncrt.Container, root: str, controller: str = "") -> str:
    """Its directory in the hierarchy of a controller; without one, where all of it is frozen."""
    places = [each.path for each in record_of(container, root).cgroup]
    if not controller:
        return places[0]
    machine = discover()
    held = machine.v1.get(controller) or machine.v2
    assert held is not None
    return next(each for each in places if held.holds(each))


def left(paths: tuple[str, ...] | list[str]) -> list[str]:
    """Those of them that are still there."""
    return [each for each in paths if os.path.lexists(each)]


def holder() -> Hierarchy:
    """The hierarchy in which containers are frozen and killed here."""
    machine = discover()
    found = machine.v2 or machine.v1.get("freezer")
    assert found is not None
    return found


def everywhere(path: str) -> list[str]:
    """An absolute cgroupsPath's directory in each hierarchy."""
    machine = discover()
    held = {*machine.v1.values(), *([machine.v2] if machine.v2 else [])}
    return [each.top + path for each in held]


def path_of(directory: str) -> str:
    """The absolute cgroupsPath that is that directory in its hierarchy."""
    machine = discover()
    held = {*machine.v1.values(), *([machine.v2] if machine.v2 else [])}
    return next(directory[len(each.top) :] for each in held if each.holds(directory))


@contextlib.contextmanager
def existing(path: str) -> Iterator[str]:
    """A cgroup of somebody else's at that cgroupsPath, where containers are frozen; removed at the end."""
    directory = holder().top + path
    os.makedirs(directory)
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            _cgroups.thaw(directory)
        _cgroups.kill(directory, 5)
        _cgroups.until_empty(directory, 5)
        _cgroups.remove(directory)


def without_v2(machine: Machine) -> Machine:
    """The same machine with version 1 only."""
    return machine._replace(v2=None)


def make_machine(
    directory: Path, v1: str = "", v2: str | None = None, own: str = "", held: str | None = None
) -> Machine:
    """A made-up machine below an empty directory.

    `v1`, `v2`: names of the controllers that each has; None: there is no version 2. `own` is our
    cgroup in each. `held`: what every cgroup of version 2 hands down; None: all.
    """
    hierarchies = {}
    for each in v1.split():
        path = directory / each
        (path / own.strip("/")).mkdir(parents=True)
        controllers = frozenset({each})
        hierarchies[each] = Hierarchy(str(path), str(path) + own, v2=False, controllers=controllers)
    if v2 is None:
        return Machine(hierarchies, None)
    top = directory / "unified"
    (top / own.strip("/")).mkdir(parents=True)
    for path in (top, top / own.strip("/")):
        (path / "cgroup.controllers").write_text(v2)
        (path / "cgroup.subtree_control").write_text(v2 if held is None else held)
        (path / "cgroup.procs").write_text("1\n")
    if own:
        (top / own.strip("/") / "cgroup.type").write_text("domain\n")
    return Machine(hierarchies, Hierarchy(str(top), str(top) + own, v2=True))


@contextlib.contextmanager
def delegated(hierarchies: list[str], path: str, user: User) -> Iterator[None]:
    """A cgroup of the user's in each of the hierarchies, as cgroup-v2.rst says to delegate one."""
    directories = [top + path for top in hierarchies]
    for directory in directories:
        os.mkdir(directory)
        for name in ("", "cgroup.procs", "cgroup.subtree_control"):
            with contextlib.suppress(FileNotFoundError):
                os.chown(f"{directory}/{name}", user.uid, user.gid)
    try:
        yield
    finally:
        for directory in directories:
            _cgroups.kill(directory, 5)
            _cgroups.until_empty(directory, 5)
            _cgroups.remove(directory)
