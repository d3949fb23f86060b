"""A container's written layer: whose a kept one is, the end of its gofer, and what lies on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING

from portalocker import LockFlags
from portalocker.portalocker import FlockLocker

from asyncrt import _fskind, _procid
from asyncrt._threads import run_blocking
from asyncrt.container import hooks
from asyncrt.errors import DestroyFailed, SpecInvalid, StartFailed
from asyncrt.launch import clearing, overlay, tree
from asyncrt.platforms.linux import namespaces
from asyncrt.sandbox import wait_gone
from asyncrt.state import Identity

if TYPE_CHECKING:
    from asyncrt.container.context import Context
    from asyncrt.launch.plan import OverlayPlan
    from asyncrt.state import Record

_flock = FlockLocker().locker


def refuse_place(plan: OverlayPlan) -> None:
    """Raise SpecInvalid for a directory where nobody can write files. Blocks: it may be anywhere."""
    for path in (plan["upper"], os.path.dirname(plan["made"])):
        type = _fskind.made_up(path)
        if type:
            why = (
                f"{path} is on a {type} file system, which can hold nothing that a container writes; "
                "give a directory on a disk, or on a tmpfs"
            )
            raise SpecInvalid(json_path="overlay", why=why)


def hold(container_id: str, plan: OverlayPlan) -> int:
    """The directory of a layer that is kept, made if it isn't there, with its lock.

    The descriptor is for its gofer, and the lock is there for as long as one of the two is open: it is
    one container's at a time. Raises StartFailed. Blocks: it may be anywhere.
    """
    path, fd = plan["upper"], -1
    try:
        while True:
            made = _make(path)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                if os.path.lexists(path):
                    raise  # a link to nothing
                continue
            _flock(fd, LockFlags.EXCLUSIVE.value | LockFlags.NON_BLOCKING.value)
            if _is_still_there(path, fd):
                break
            os.close(fd)  # whoever had made it took it away again
            fd = -1
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        what, number = overlay.WHAT, error.errno or 0
        if isinstance(error, BlockingIOError):
            what, number = f"{what} (another container writes to it)", errno.EBUSY
        raise StartFailed(container_id=container_id, what=what, path=path, errno=number) from error
    plan["fresh"] = made
    return fd


def unmake(plan: OverlayPlan, held: int) -> None:
    """Take the directory away that `hold` made for a container that there is none of; it is still held.

    What somebody has put into it stays, and it with that. Blocks.
    """
    if plan["fresh"] and _is_still_there(plan["upper"], held):
        with contextlib.suppress(OSError):
            # Directories that the container's mounts were to be on; files are never ours.
            for directory, _, _ in os.walk(plan["upper"], topdown=False):
                os.rmdir(directory)


def _make(path: str) -> bool:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    return True


def _is_still_there(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


async def end_gofer(record: Record, seconds: float) -> None:
    """Kill the gofer, once nothing of the container is left, and wait, bounded, for all of it to end.

    Raises DestroyFailed. If cancelled, it may have been killed.
    """
    gofer = record.gofer
    if gofer is None:
        return
    left = [f"gofer (pid {gofer.pid})"]
    with contextlib.suppress(PermissionError):
        # They die with it, a server of its overlay say; but who they were is to be seen now only.
        below = await run_blocking(_below, gofer)
        _procid.send(gofer, signal.SIGKILL)
        if await wait_gone(gofer, seconds):
            left = [
                f"below its gofer (pid {each.pid})"
                for each in below
                if not await wait_gone(each, seconds)
            ]
    if left:
        raise DestroyFailed(container_id=record.id, left=left)


def _below(gofer: Identity) -> list[Identity]:
    if _procid.foreign(gofer) or not _procid.alive(gofer):
        return []
    pids = tree.descendants(gofer.pid)
    found = [each for each in map(Identity.of, pids) if each is not None]
    return [each for each in found if tree.is_below(each.pid, gofer.pid)]


async def clear(context: Context, record: Record) -> None:
    """Remove the directory that was made for its layer. Raises DestroyFailed.

    If cancelled, the rest is for the next time.
    """
    path = record.layer
    if path is None:
        return
    try:
        await run_blocking(clearing.clear, path)
    except OSError as error:
        why = error.strerror
        if isinstance(error, PermissionError) and os.geteuid():
            why = await _clear_as_its_root(context, record, path)
        if why:
            raise DestroyFailed(container_id=record.id, left=[f"{path} ({why})"]) from error


async def _clear_as_its_root(context: Context, record: Record, path: str) -> str:
    """Remove what belongs to others of its user namespace; "" when it is gone, else why not."""
    spec = await hooks.read_spec(context, record.id)
    linux = None if spec is None else spec.config.linux
    if spec is None or linux is None:
        return "its config is gone, and with it who its files belong to"
    found = namespaces.namespaces_of(spec.config)
    try:
        maps, ids = namespaces.id_maps(linux, found, spec.path), namespaces.owner(linux, found)
    except SpecInvalid as error:
        return str(error)
    if maps is None or ids is None:
        return os.strerror(errno.EACCES)
    return await context.launcher.clear(path, maps, ids)
