"""One look at everything: what can't be at any moment, and what can't be for long.

What is read one after the other may not fit together only because it changed meanwhile, so everything
that is wrong for an instant is read again, in the order that makes it certain. What takes its time (a
death, the end of a sandbox) is a suspicion, and wrong when it stays.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from asyncrt import _paths, _procid
from asyncrt.errors import AsyncrtError, ContainerNotFound
from asyncrt.state import list_ids, read_record
from asyncrt.state.listing import view_now
from asyncrt.status import Status
from tests.helpers import reality, sandboxes
from tests.soak import places
from tests.soak.own import lock_holders
from tests.soak.scene import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncrt.state import Record, View
    from tests.helpers.reality import Seen
    from tests.soak.scene import Scene

Suspicion = tuple[str, ...]

_SUPERVISOR = "asyncrt:super"
_LOCKS = (_paths.LOCK, _paths.QUEUE, f"{_paths.LOCK} (deleted)", f"{_paths.QUEUE} (deleted)")


class Known(NamedTuple):
    """A container's record, what every reader is told of it, and whose config is there."""

    record: Record
    view: View
    mark: Mark | None
    score: int | None  # in its config


class Stray(NamedTuple):
    """A file that is nobody's."""

    id: str
    name: str
    inode: int


class Look:
    """What was seen at one time: first the kernel's things, then the records."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.wrong: list[str] = []
        self.suspicions: dict[Suspicion, str] = {}
        self.cgroups = our_cgroups(scene)
        self.seen = {each.pid: each for each in reality.everything()}
        self.held = lock_holders(scene.root)
        self.known = self._records()
        self._membership()
        self._processes()
        self._gofers()
        self._sandboxes()
        self._own_processes()
        self._cgroups()
        self.suspicions |= places.suspicions(self)
        self.wrong += places.shared_layers(self)
        self.strays = self._strays()
        self.wrong += [f"mounted: {line.strip()}" for line in our_mounts(scene)]

    def _suspect(self, what: str, *key: object, more: object = "") -> None:
        self.suspicions[(what, *map(str, key))] = str(more)

    def _records(self) -> dict[str, Known]:
        found: dict[str, Known] = {}
        for id in list_ids(self.scene.root):
            try:
                record = read_record(self.scene.root, id)
                view = view_now(self.scene.root, id)
            except ContainerNotFound:
                continue
            except AsyncrtError as error:
                self.wrong.append(f"{id} can't be read: {error!r}")
                continue
            process = (self.scene.config_of(id) or {}).get("process")
            mark = None if process is None else self.scene.marks_in(process["env"])
            score = None if process is None else process.get("oomScoreAdj")
            found[id] = Known(record, view, mark, score)
        return found

    def _is_current(self, record: Record) -> bool:
        """Whether that instance is still there, and nobody has begun to remove it."""
        try:
            return read_record(self.scene.root, record.id).instance == record.instance and (
                os.path.lexists(f"{self.scene.root}/{record.id}{_paths.DIRECTORY}")
            )
        except AsyncrtError:
            return False

    # --- what must be so at every moment

    def _membership(self) -> None:
        """A container beside the root is noted down, from before its record until after that."""
        for id, (record, *_) in self.known.items():
            root = self.known.get(record.sandbox)
            if record.sandbox == id or root is None or record.supervisor is None:
                continue
            if root.record.supervisor != record.supervisor:
                continue  # of an earlier sandbox of that name
            path = f"{self.scene.root}/{record.sandbox}{_paths.DIRECTORY}/{_paths.MEMBERS}/{id}"
            if not os.path.lexists(path) and (
                self._is_current(root.record) and self._is_current(record)
            ):
                self.wrong.append(f"{id} isn't among the members of {record.sandbox}: {record}")

    def _own_processes(self) -> None:
        """Supervisors, gofers and inits hold no lock; what is held is held by somebody alive."""
        for each in self.ours():
            with contextlib.suppress(OSError):
                for name in os.listdir(f"/proc/{each.pid}/fd"):
                    with contextlib.suppress(FileNotFoundError):
                        to = os.readlink(f"/proc/{each.pid}/fd/{name}")
                        if to.startswith(self.scene.root) and to.endswith(_LOCKS):
                            self.wrong.append(f"{each} has {to}")
        for name, _, pid in self.held:
            if pid and not os.path.exists(f"/proc/{pid}"):
                self._suspect("a lock of somebody dead", name, pid)

    # --- what must come to be so

    def _processes(self) -> None:
        """What is marked with an id is gone with that id's record; a record says what is true."""
        marks = {id: each.mark for id, each in self.known.items()}
        for seen in self.seen.values():
            mark = Mark.parse(seen.mark)
            if mark is None or mark.tag != self.scene.tag:
                continue
            if mark.id not in self.known or marks[mark.id] not in {mark, None}:
                self._suspect("outlives its record", seen.pid, mark, more=seen)
        for id, (record, view, *_) in self.known.items():
            if record.init is None or view.status is None:
                continue
            alive = _procid.alive(record.init)
            if alive == (view.status is Status.STOPPED):
                key = id, record.instance, record.revision, view.status
                self._suspect("isn't what is told", *key, more=f"init alive: {alive}, {view}")

    def _gofers(self) -> None:
        named = {each.record.gofer.pid for each in self.known.values() if each.record.gofer}
        supervisors = {
            each.record.supervisor.pid for each in self.known.values() if each.record.supervisor
        }
        spare = reality.spares(self.seen.values())
        for seen in self.ours():
            if seen.comm == _paths.GOFER_COMM and seen.pid not in named:
                self._suspect("a gofer of no record", seen.pid, more=seen)
            if seen.comm == _paths.GATE_COMM and seen.pid not in {
                each.record.init.pid for each in self.known.values() if each.record.init
            }:
                self._suspect("an init of no record", seen.pid, more=seen)
            if seen.comm == _SUPERVISOR and seen.pid not in supervisors | spare:
                self._suspect("a supervisor of no record", seen.pid, more=seen)
        for id, (record, view, *_) in self.known.items():
            if record.gofer is None or record.supervisor is None:
                continue
            supervised = _procid.alive(record.supervisor)
            serving = _procid.alive(record.gofer)
            if serving and not supervised:
                self._suspect("a gofer without its supervisor", id, record.instance)
            if supervised and not serving and view.status is not Status.STOPPED:
                self._suspect("outlives its gofer", id, record.instance, more=view)

    def _sandboxes(self) -> None:
        """With the root container, and by its supervisor, all end."""
        for id, (record, view, *_) in self.known.items():
            root = self.known.get(record.sandbox)
            if record.sandbox == id or root is None or record.supervisor is None:
                continue
            if root.record.supervisor != record.supervisor or not _procid.alive(record.supervisor):
                continue
            if root.view.status is Status.STOPPED and view.status is not Status.STOPPED:
                self._suspect("outlives its sandbox", id, record.instance, more=view)

    def _cgroups(self) -> None:
        named = {path for each in self.known.values() for path in each.record.cgroups}
        for path in self.cgroups - named:
            if os.path.isdir(path):
                self._suspect("a cgroup of no record", path)

    def _strays(self) -> list[Stray]:
        """Files that belong to no container and that nobody has in hand.

        A record's lock is made before it and goes after it, and so is the gate with the lock. What is
        temporary is somebody's who holds the lock.
        """
        names = set(os.listdir(self.scene.root))
        held = {name for name, *_ in self.held} | {
            name for name, *_ in lock_holders(self.scene.root)
        }
        found = []
        for name in names:
            temporary = name.startswith(".") and name.endswith("~")
            id = name.strip(".~").rpartition(".")[0]
            lock = id + _paths.LOCK
            if not id.startswith(self.scene.tag):
                continue  # of the log of events
            if temporary or id + _paths.STATE not in names:
                fine = lock in held if temporary or name == lock else lock in names
                with contextlib.suppress(FileNotFoundError):
                    if not fine:
                        found.append(Stray(id, name, os.lstat(f"{self.scene.root}/{name}").st_ino))
        return found

    def ours(self) -> Iterator[Seen]:
        """Living processes of asyncrt's own that belong to this root."""
        for seen in self.seen.values():
            if seen.comm.startswith("asyncrt:") and _is_of(seen.pid, self.scene.root):
                yield seen


def our_cgroups(scene: Scene) -> set[str]:
    """The directories of cgroups that were made for anything of this soak."""
    begin = f"asyncrt-{scene.tag}-"
    found = set()
    for top in cgroup_tops():
        for name in os.listdir(top):
            if name.startswith(begin):
                found |= {path for path, _, _ in os.walk(f"{top}/{name}")}
    return found


def cgroup_tops() -> list[str]:
    """The directories in which cgroups are made here."""
    from asyncrt.platforms.cgroups import place
    from asyncrt.platforms.cgroups.machine import discover

    machine = discover()
    held = [*machine.v1.values(), *([machine.v2] if machine.v2 else [])]
    return sorted({place.parent(each) for each in held})


def our_mounts(scene: Scene) -> list[str]:
    """What is mounted of it, or for it, where we are."""
    return sandboxes.mounts_below(scene.directory)


def _is_of(pid: int, root: str) -> bool:
    """A fork server's command line ends with its root, and so does that of all it forks."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").endswith(b"\0" + root.encode())
    except OSError:
        return False
