"""What is under a root: ids, views of all, and the id that an abbreviated one means.

Synchronous and lock-free; the caller takes one hop to a worker thread for the whole.
"""

from __future__ import annotations

import os

from asyncrt import _paths, _procid
from asyncrt.errors import ContainerNotFound, SchemaTooNew, StateCorrupted, StorageFailed
from asyncrt.ids import ContainerId, check_prefix, is_id, match_prefix
from asyncrt.state.exit_record import unreadable
from asyncrt.state.filter import Filter
from asyncrt.state.reality import look, settle
from asyncrt.state.record import decode, exists, record_path
from asyncrt.state.view import View, view_of

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 4096
_MOST_BYTES = 1 << 24  # of what may be no record, as _durable.read has it


def list_ids(root: str) -> list[ContainerId]:
    """The ids of all containers under the root, broken ones too, sorted.

    Raises StorageFailed when the root can't be read. Blocks for one scan of the root.
    """
    return _ids(root, _names(root))


def find(root: str, text: str) -> ContainerId:
    """The id that `text` names: an exact one always wins, else the one id that starts with it.

    Raises InvalidId for what can be neither, AmbiguousId with the candidates, or ContainerNotFound.
    Blocks for one stat when the id is exact, else for one scan of the root.
    """
    check_prefix(text)
    if is_id(text) and exists(root, ContainerId(text)):
        return ContainerId(text)
    # Few of many names are worth a closer look.
    names = [each for each in _names(root) if each.startswith(text)]
    found = match_prefix(_ids(root, names), text)
    if found is None:
        raise ContainerNotFound(container_id=text, root=root)
    return found


def _ids(root: str, names: list[str]) -> list[ContainerId]:
    with_state, only_lock = _candidates(names)
    found = [each for each in only_lock if exists(root, each)]
    return sorted(with_state + found)


def view_now(root: str, container_id: str) -> View:
    """The view of one container; takes no lock. Raises what `reality.look` raises."""
    return view_of(*look(root, container_id))


def list_views(root: str, wanted: Filter | None = None) -> list[View]:
    """Views of all containers under the root, or of those that are wanted, sorted by id; takes no lock.

    A broken one becomes a view that says so and hides no other. One that is destroyed meanwhile is
    left out. Raises StorageFailed when the root can't be read.
    """
    directory = _open_root(root)
    try:
        with_state, only_lock = _candidates(_names(root, directory))
        namespace = _procid.pid_namespace()
        views = []
        for container_id in sorted(with_state + only_lock):
            view = _view(root, directory, container_id, namespace, wanted)
            if view is not None:
                views.append(view)
        return views
    finally:
        os.close(directory)


def _view(
    root: str, directory: int, container_id: ContainerId, namespace: int, wanted: Filter | None
) -> View | None:
    try:
        data = _read(directory, container_id + _paths.STATE)
        record = decode(data, root, container_id)
        if wanted is not None and not wanted.may_fit(record):
            return None
        view = view_of(*settle(root, record, namespace))
    except FileNotFoundError:  # ContainerNotFound is one
        return None
    except (StateCorrupted, SchemaTooNew, StorageFailed) as error:
        view = View(id=container_id, broken=str(error))
    except OSError as error:
        path = record_path(root, container_id)
        view = View(id=container_id, broken=str(unreadable(path, error)))
    return view if wanted is None or wanted.fits(root, view) else None


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, _READ, dir_fd=directory)
    try:
        data = os.read(fd, _CHUNK)
        if len(data) == _CHUNK:
            parts, size = [data], _CHUNK
            while size <= _MOST_BYTES and (more := os.read(fd, 1 << 20)):
                parts.append(more)
                size += len(more)
            data = b"".join(parts)
        return data
    finally:
        os.close(fd)


def _candidates(names: list[str]) -> tuple[list[ContainerId], list[ContainerId]]:
    """Ids with a state file among the names, and those with nothing but a lock file.

    A state file that is renamed into place during the scan can be missed on tmpfs of older kernels,
    where a directory is read newest first and the new entry lies before the old one's place. Lock
    files are never renamed and live as long as the container, so a look there catches those.
    """
    end = _paths.STATE
    states = {name[: -len(end)] for name in names if name.endswith(end)}
    end = _paths.LOCK
    locks = {name[: -len(end)] for name in names if name.endswith(end)} - states
    return (
        [ContainerId(each) for each in states if is_id(each)],
        [ContainerId(each) for each in locks if is_id(each)],
    )


def _open_root(root: str) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed(path=root, errno=error.errno or 0) from error


def _names(root: str, directory: int | None = None) -> list[str]:
    """`directory` is the root, where that is open."""
    try:
        return os.listdir(root if directory is None else directory)
    except OSError as error:
        raise StorageFailed(path=root, errno=error.errno or 0) from error
