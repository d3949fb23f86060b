"""The names of a sandbox's containers, in the directory of its root container.

`members/CID` is there from before the container's record says creating until after that is gone. It is
only a name: whether there is such a container, and whose it is, says its record.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from asyncrt import _paths
from asyncrt.errors import AsyncrtError, StorageFailed
from asyncrt.state.record import read_record

if TYPE_CHECKING:
    from asyncrt.state.record import Record

_WANTING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def add_member(root: str, sandbox_id: str, container_id: str) -> None:
    """Name it among the sandbox's members. Raises OSError, ENOENT if that is gone."""
    directory = f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.MEMBERS}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(f"{directory}/{container_id}", flags, 0o600))


def remove_member(root: str, sandbox_id: str, container_id: str) -> None:
    """Take the name away, if it is there; for who holds the container's lock. What can't be, gc does."""
    path = f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.MEMBERS}/{container_id}"
    with contextlib.suppress(OSError):
        os.unlink(path)


def has_members(root: str, sandbox_id: str) -> bool:
    """Whether there are, or may be, others in the sandbox than its root container. Blocks for a look."""
    try:
        return bool(os.listdir(f"{root}/{sandbox_id}{_paths.DIRECTORY}/{_paths.MEMBERS}"))
    except FileNotFoundError:
        return False
    except OSError:
        return True  # for want of descriptors, say: what isn't known to be its own isn't touched


def read_members(root: str, record: Record) -> list[Record]:
    """The records of the containers in that root container's sandbox, by id. Blocks for reads.

    One that can't be read hides no other. Raises StorageFailed where none can be: a sandbox must not
    seem to have none because this process has no descriptor left.
    """
    directory = f"{root}/{record.id}{_paths.DIRECTORY}/{_paths.MEMBERS}"
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageFailed(path=directory, errno=error.errno or 0) from error
    found = []
    for name in sorted(names):
        try:
            each = read_record(root, name)
        except StorageFailed as error:
            if error.errno in _WANTING:
                raise
            continue
        except AsyncrtError:
            continue  # a stale name, or a broken record
        # Of an earlier sandbox of that name it has another supervisor.
        if each.sandbox == record.id and each.supervisor in {None, record.supervisor}:
            found.append(each)
    return found
