"""What all containers of one engine share: root, limits in time, launcher, open watches."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

import msgspec

from asyncrt import _fskind, _paths, _procid
from asyncrt._inotify import Directories
from asyncrt._threads import run_blocking
from asyncrt._together import Together
from asyncrt.container import cgroup
from asyncrt.container.takeover import Pumps
from asyncrt.errors import ContainerNotFound, SandboxUnresponsive, StorageFailed
from asyncrt.launch import frames
from asyncrt.sandbox import Channel, Launcher, PidWatch, unix, wait_gone
from asyncrt.state import Identity, has_members, look, observe
from asyncrt.state.exit_record import ExitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVarTuple

    from asyncrt.container.callables import HookCall
    from asyncrt.state import Observed, Record

    Args = TypeVarTuple("Args")

T = TypeVar("T")

ANSWER_SECONDS = 30.0  # how long a healthy supervisor on a busy machine may take to answer
_READERS = 8  # of log files at once, each in a thread
_IDLE_WATCHES = 64  # connections kept for the next call though nobody waits on them


def patience(timeout: float | None) -> float:
    """How many seconds a call with that `timeout` waits for a supervisor or an init to answer.

    0 is about the lock: not to be waited for. Whoever has it still needs an answer.
    """
    return timeout or ANSWER_SECONDS


_own: dict[int, Identity] = {}  # our own identity by pid: a forked child has another


def own_identity() -> Identity:
    """This process, as a creator's or an owner's identity."""
    pid = os.getpid()
    if pid not in _own:
        found = Identity.of(pid)
        assert found is not None  # noqa: S101 - we are alive
        _own.clear()
        _own[pid] = found
    return _own[pid]


class Context:
    """One engine's side of things. Belongs to one event loop."""

    def __init__(
        self,
        root: str,
        *,
        owner: str,
        platform: str,
        lock_timeout: float,
        durable: bool,
        pivot_root: bool = True,
        hooks: Mapping[str, tuple[HookCall, ...]] | None = None,
    ) -> None:
        self.root = root
        self.loop = asyncio.get_running_loop()
        self.platform = platform
        self.lock_timeout = lock_timeout
        self.durable = durable
        self.pivot_root = pivot_root
        self.owner = owner
        self.hooks = hooks or {}  # the engine's own, by kind
        self.launcher = Launcher(root)
        self.watches = Watches()
        self.watchers: set[Callable[[], None]] = set()  # each ends a watch of the root's events
        self.directories = Directories()
        self.readers = asyncio.Semaphore(_READERS)
        self.pumps = Pumps()
        self.end_cgroups = Together(cgroup.end_at_once)
        self._inline = _fskind.kind_of(root) == "memory"

    def directory(self, container_id: str) -> str:
        """The container's directory ID.d."""
        return f"{self.root}/{container_id}{_paths.DIRECTORY}"

    async def run(self, func: Callable[[*Args], T], *args: *Args) -> T:
        """Short file work below the root: inline on a memory-backed file system, else one hop."""
        if self._inline:
            return func(*args)
        return await run_blocking(func, *args)

    async def look(self, container_id: str, instance: str) -> tuple[Record, Observed]:
        """The record of exactly that instance and what is true of it; takes no lock.

        Raises ContainerNotFound and what reading a record raises. If cancelled, nothing has changed.
        """
        record, observed = await self.run(look, self.root, container_id)
        if record.instance != instance:
            raise ContainerNotFound(container_id=container_id, root=self.root, instance=instance)
        return record, observed

    @contextlib.contextmanager
    def watching(self, record: Record) -> Iterator[Channel | PidWatch | None]:
        """The container's supervisor, else its init's pidfd, or None when both are gone.

        Shared: all users of one container in one engine have the same one. Raises
        SandboxUnresponsive when a hung supervisor's queue of clients is full, StorageFailed when
        there is no descriptor or memory to reach it.
        """
        with self.watches.use((record.id, record.instance), lambda: self._open(record)) as watch:
            yield watch

    @contextlib.contextmanager
    def channel(self, record: Record, operation: str) -> Iterator[Channel]:
        """The channel to the container's supervisor, for a verb that can't do without.

        Raises SandboxUnresponsive when there is none.
        """
        with self.watching(record) as watch:
            if not isinstance(watch, Channel):
                if record.supervision == "caller":
                    why = "it has no supervisor of its own"
                elif record.protocol > frames.VERSION:
                    why = f"its supervisor speaks protocol {record.protocol}, use a newer asyncrt"
                else:
                    why = "its supervisor is gone"
                raise SandboxUnresponsive(container_id=record.id, operation=operation, why=why)
            yield watch

    async def until_told(self, record: Record, seconds: float) -> None:
        """Wait, bounded, for a supervisor whose init is dead to tell how that ended, or to go.

        If cancelled, nothing has changed.
        """
        if record.supervisor is None:
            return
        if await self.run(_may_stay, record, self.root):
            # What it has told before is written down by now.
            with contextlib.suppress(SandboxUnresponsive), self.watching(record) as watch:
                if isinstance(watch, Channel):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await watch.done.wait()
                    return
            if not (await self.run(observe, record, self.root)).exit_pending:
                return
        await wait_gone(record.supervisor, seconds)

    def _open(self, record: Record) -> Channel | PidWatch | None:
        # A supervisor that speaks a newer protocol is let be: its processes can be seen without it.
        if record.supervision == "own" and record.protocol <= frames.VERSION:
            try:
                return Channel(unix.connect(self.directory(record.id), _paths.CONTROL))
            except (FileNotFoundError, ConnectionError) as error:
                # One that lives on for others has taken the name away when this one was over.
                if record.sandbox == record.id or isinstance(error, ConnectionError):
                    self.pumps.take_over_from(record, self.directory(record.id))
            except BlockingIOError:
                raise SandboxUnresponsive(
                    container_id=record.id,
                    operation="reach",
                    why="too many clients wait for its supervisor",
                ) from None
            except OSError as error:
                raise self.unreachable(record, error) from error
        if record.init is None:
            return None
        refuse_foreign(record, "wait")
        try:
            pidfd = _procid.open_pidfd(record.init)
        except OSError as error:
            raise StorageFailed(path=f"/proc/{record.init.pid}", errno=error.errno or 0) from error
        return None if pidfd is None else PidWatch(pidfd)

    def unreachable(self, record: Record, error: OSError) -> StorageFailed:
        """The error for a supervisor that can't be reached for want of memory or descriptors."""
        path = f"{self.directory(record.id)}/{_paths.CONTROL}"
        return StorageFailed(path=path, errno=error.errno or 0)

    def take_over(self, record: Record) -> None:
        """See to it that the output of a container whose supervisor was killed is pumped on."""
        self.pumps.take_over(record, self.directory(record.id))

    async def close(self) -> None:
        """Let go of everything; containers live on. If cancelled, descriptors are closed anyway."""
        self.watches.close()
        for end in list(self.watchers):
            end()
        await self.pumps.close()
        await self.launcher.close()


def _may_stay(record: Record, root: str) -> bool:
    """Whether its supervisor may have others to stay for. Blocks for a look."""
    return record.sandbox != record.id or record.gofer is not None or has_members(root, record.id)


class Watches:
    """Open watches by container instance, each with its users counted."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], Channel | PidWatch] = OrderedDict()
        self._users: dict[tuple[str, str], int] = {}
        self._held: set[tuple[str, str]] = set()  # those that a lease hangs on
        self._most_idle = _IDLE_WATCHES

    def hold(self, key: tuple[str, str]) -> None:
        """Keep the channel open until it is let go, the container is dropped, or all is closed."""
        self._held.add(key)

    def holds(self, key: tuple[str, str]) -> bool:
        """Whether the channel is kept open."""
        return key in self._held

    def let_go(self, key: tuple[str, str]) -> None:
        """The channel may be closed when nobody uses it."""
        self._held.discard(key)
        self._trim()

    def adopt(self, key: tuple[str, str], channel: Channel) -> None:
        """Keep the creator's channel for what comes next."""
        self._open[key] = channel
        channel.on_close = lambda: self._forget(key, channel)
        self._trim()

    def open_channel(self, key: tuple[str, str]) -> Channel | None:
        """The open channel to that container's supervisor, if there is one."""
        watch = self._open.get(key)
        return watch if isinstance(watch, Channel) and not watch.closed else None

    @contextlib.contextmanager
    def use(
        self, key: tuple[str, str], opener: Callable[[], Channel | PidWatch | None]
    ) -> Iterator[Channel | PidWatch | None]:
        """An open watch, shared by all users at a time."""
        watch = self._open.get(key)
        if watch is None or watch.closed:
            watch = opener()
            if watch is None:
                yield None
                return
            self._open[key] = watch
            opened = watch
            watch.on_close = lambda: self._forget(key, opened)
        self._open.move_to_end(key)
        self._users[key] = self._users.get(key, 0) + 1
        try:
            yield watch
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                if isinstance(watch, PidWatch):
                    watch.close()
                self._trim()

    def _forget(self, key: tuple[str, str], watch: Channel | PidWatch) -> None:
        if self._open.get(key) is watch:
            del self._open[key]
            self._held.discard(key)

    def _trim(self) -> None:
        # With a lease and a user it counts twice: then one idle one more may stay.
        idle = len(self._open) - len(self._users) - len(self._held) - self._most_idle
        if idle > 0:
            unused = [key for key, watch in self._open.items() if self._is_idle(key, watch)]
            for key in unused[:idle]:
                self._open[key].close()

    def _is_idle(self, key: tuple[str, str], watch: Channel | PidWatch) -> bool:
        if key in self._users or key in self._held:
            return False
        return not (isinstance(watch, Channel) and watch.expects)

    def drop(self, key: tuple[str, str]) -> None:
        """The container is gone; whoever still waits hears it."""
        watch = self._open.get(key)
        if watch is not None and key not in self._users:
            watch.close()

    def close(self) -> None:
        """Close all; from now on what nobody uses isn't kept."""
        self._most_idle = 0
        for watch in list(self._open.values()):
            watch.close()


def refuse_foreign(record: Record, operation: str) -> None:
    """Raise SandboxUnresponsive for a container of another pid namespace: its pids mean nothing."""
    if record.init is not None and _procid.foreign(record.init):
        raise SandboxUnresponsive(
            container_id=record.id,
            operation=operation,
            why="it was started in another pid namespace and can only be handled from there",
        )


def exit_result(found: dict[str, Any]) -> ExitResult:
    """The ExitResult in a supervisor's message."""
    fields = {name: found[name] for name in ExitResult.__struct_fields__ if name in found}
    return msgspec.convert(fields, ExitResult)
