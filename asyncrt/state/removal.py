"""Taking away a container's files, in the order that lets a repetition finish what was begun.

Nothing here is synced: what a power loss brings back is a container that the next reader finds
stopped and the next delete removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_USUAL = (_paths.CONFIG, _paths.CONTROL, _paths.GATE)  # in ID.d, beside the exit
_ATTEMPTS = 8  # to remove a directory that was emptied


def remove_container(
    root: str,
    container_id: str,
    *,
    tell: Callable[[], None] | None = None,
    forget: Callable[[], None] | None = None,
) -> None:
    """Remove all files of a container whose lock the caller holds; the lock file goes last.

    `tell` is called right before the record goes, `forget` right after it. Idempotent. Raises
    StorageFailed with everything later in the order still there.
    """
    remove_all_but_lock(root, container_id, tell=tell)
    if forget is not None:
        forget()
    remove_lock_files(root, container_id)


def remove_all_but_lock(
    root: str, container_id: str, *, tell: Callable[[], None] | None = None
) -> None:
    """Remove ID.d, then the record, as `remove_container` does.

    ID.d is renamed out of the way first. So a record without a directory is of a container whose
    removal has begun, at whatever point its remover was killed. How it ended is kept beside that until
    the record is gone: no end is unknown because somebody was killed here.
    """
    _remove_directory(root, container_id)
    if tell is not None:
        tell()
    remove_record(root, container_id)


def _remove_directory(root: str, container_id: str) -> None:
    aside = _paths.being_removed(container_id)
    _set_aside(root, container_id, aside)
    if not _remove_usual(root, container_id, aside):
        remove_tree(root, aside)


def _remove_usual(root: str, container_id: str, aside: str) -> bool:
    """Keep its exit, and remove it unlisted, as what is in it is mostly known; whether it is gone."""
    path = f"{root}/{aside}"
    try:
        directory = os.open(path, _DIRECTORY)
    except OSError:
        return False
    try:
        kept = f"{root}/{_paths.last_exit(container_id)}"
        with contextlib.suppress(OSError):  # there may be none, and it's no reason to stop
            os.rename(_paths.EXIT, kept, src_dir_fd=directory)
        for name in _USUAL:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
        os.rmdir(path)
    except OSError:
        return False
    finally:
        os.close(directory)
    return True


def _set_aside(root: str, container_id: str, aside: str) -> None:
    name = container_id + _paths.DIRECTORY
    for _ in range(2):
        try:
            os.rename(f"{root}/{name}", f"{root}/{aside}")
        except FileNotFoundError:
            return
        except OSError:
            remove_tree(root, aside)  # something that a killed one left may be there
        else:
            return
    remove_tree(root, name)  # it can't be renamed: gone is what it is to be


def clear_for_new(root: str, container_id: str, *, tell: Callable[[], None] | None = None) -> None:
    """As `remove_all_but_lock`, for who goes on with the lock: nothing of the one before is left."""
    remove_all_but_lock(root, container_id, tell=tell)
    _unlink(root, _paths.last_exit(container_id))


def remove_record(root: str, container_id: str) -> None:
    """Remove the record. Raises StorageFailed."""
    _unlink(root, container_id + _paths.STATE)


def remove_lock_files(root: str, container_id: str) -> None:
    """Remove the gate and the lock file, in this order. Raises StorageFailed.

    Before them the exit that was kept, and what a killed writer of the record left: only who holds
    the lock may.
    """
    _unlink(root, _paths.last_exit(container_id))
    _unlink(root, _paths.being_saved(container_id))
    _unlink(root, container_id + _paths.QUEUE)
    _unlink(root, container_id + _paths.LOCK)


def remove_tree(root: str, name: str) -> None:
    """Remove a directory below the root with all in it, or whatever else has that name.

    Goes down by descriptors and follows no link. Takes none for what isn't there or is empty, so
    that a create that ran out of them can take back what it began. Raises StorageFailed naming what
    couldn't be removed.
    """
    path = f"{root}/{name}"
    _remove(None, path, path)


def _remove(parent: int | None, name: str, path: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in {errno.EISDIR, errno.EPERM}:  # POSIX has EPERM for a directory
            raise _failed(path, error) from error
    else:
        return
    for attempt in range(_ATTEMPTS):
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            # On the last, somebody is still writing in it, e.g. a supervisor that was told to end.
            if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS - 1:
                raise _failed(path, error) from error
        else:
            return
        _empty(parent, name, path)


def _empty(parent: int | None, name: str, path: str) -> None:
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from error
    try:
        for each in os.listdir(directory):
            _remove(directory, each, f"{path}/{each}")
    except StorageFailed:
        raise
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        os.close(directory)


def _unlink(root: str, name: str) -> None:
    path = f"{root}/{name}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except IsADirectoryError:
        remove_tree(root, name)  # no file of ours; a broken container can be removed all the same
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: str, error: OSError) -> StorageFailed:
    return StorageFailed(path=path, errno=error.errno or 0)
