"""A file that is written at length and has its name once all of it is there, or never had it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import aiofiles

from asyncrt import _durable, _paths
from asyncrt._threads import finish, run_blocking
from asyncrt.cli import errors
from asyncrt.cli.pid_file import in_place
from asyncrt.container import file_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from aiofiles.threadpool.binary import AsyncBufferedIOBase

    Write = Callable[[bytes], Awaitable[None]]


@contextlib.asynccontextmanager
async def writing(path: str) -> AsyncIterator[Write]:
    """What writes to the file, for the time of a block; a failure in it leaves the old one, or none.

    What can't be replaced, a FIFO or a device, is written to in place. Raises CommandFailedError. If
    cancelled, nothing is left either.
    """
    path = await run_blocking(os.path.realpath, path)
    if in_place(path):
        fd = _opened(path)
        try:
            yield to_descriptor(fd)
        finally:
            os.close(fd)
        return
    directory, name = os.path.split(path)
    beside = f"{directory}/{_paths.temporary(name)}"
    opened: list[AsyncBufferedIOBase] = []  # kept here: who is cancelled meanwhile has it removed
    try:
        try:
            await finish(_open(path, beside, opened))

            async def write(data: bytes) -> None:
                try:
                    await finish(_write(opened[0], data))
                except OSError as error:
                    raise _failed(path, error) from error

            yield write
            await write(b"")
            with _told(path):
                await run_blocking(os.fsync, opened[0].fileno())
        finally:
            with _told(path):
                for file in opened:
                    await finish(_close(file))
        with _told(path):
            await run_blocking(_rename, beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def to_descriptor(fd: int) -> Write:
    """What writes to a descriptor, which may take any time: a cancelled write is left to its thread."""

    async def write(data: bytes) -> None:
        try:
            await asyncio.wrap_future(file_threads.executor.submit(_durable.write_all, fd, data))
        except OSError as error:
            raise errors.output_failed(error) from error

    return write


def _opened(path: str) -> int:
    with _told(path):
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no wait for a reader
        os.set_blocking(fd, True)
        return fd


async def _open(path: str, beside: str, opened: list[AsyncBufferedIOBase]) -> None:
    try:
        opened.append(await aiofiles.open(beside, "xb", executor=file_threads.executor))
    except OSError as error:
        raise _failed(path, error) from error


async def _write(file: AsyncBufferedIOBase, data: bytes) -> None:
    await file.write(data)
    if not data:
        await file.flush()


async def _close(file: AsyncBufferedIOBase) -> None:
    await file.close()


def _rename(beside: str, path: str) -> None:
    os.rename(beside, path)
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: str, error: OSError) -> errors.CommandFailedError:
    return errors.CommandFailedError(f"can't write {path}: {os.strerror(error.errno or 0)}")
