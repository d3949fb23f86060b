"""Every order of events of a few tasks and threads around one lock, on a kernel in memory.

Nothing runs by itself: a task goes on, a callback of a loop runs and a thread gets its lock when
the search says so. States are told apart by what the queues, the kernel and the tasks know, and
each is left once by each of the ways that lead out of it.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncrt.locking import FileLock, _queue
from asyncrt.locking._queue import PathQueue
from tests.helpers.lock_fake import FakeSystem, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from asyncrt.locking._idle import Inode
    from asyncrt.locking._take import Attempt

PATH, GATE = "/lock", "/lock.queue"

Action = tuple[str, int]


class Setting(NamedTuple):
    """Who wants what: for each process its tasks, each told by what it does in turn.

    "x" takes the lock exclusively and "s" shared; "X" also removes the files before it releases.
    """

    processes: tuple[tuple[str, ...], ...]
    cancels: int = 0  # how many tasks are cancelled, at whatever moment
    gives_up: bool = False  # whether the descriptors kept open may be closed, at whatever moment


class WrongError(AssertionError):
    """What must not be, and the events that led to it."""


class StandingLoop:
    """As much of an event loop as the lock asks for; what is to be called waits to be told."""

    def __init__(self) -> None:
        self.ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def create_future(self) -> asyncio.Future[bool]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]  # it asks for no more of a loop

    def call_soon_threadsafe(self, func: Callable[..., object], *args: Any) -> None:
        self.ready.append((func, args))

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False


class Thread(Job):
    """A thread of the lock's, whose it is, where it stands, and how often it was overtaken."""

    def __init__(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        # A bound method of an Attempt's, and so the only name that it has here.
        self.attempt: Attempt = func.__self__  # type: ignore[attr-defined]  # it is a bound method
        queue: PathQueue = self.attempt._wanted.__self__
        self.number = queue._slot
        self.overtaken: int | None = None  # not yet first at the gate
        super().__init__(func, callback)

    def fds(self) -> list[int]:
        hold = self.attempt._hold
        return [self.attempt._gate, -1 if hold is None else hold.fd]


class Kernel(FakeSystem):
    """One whose threads can be looked at, and told to end."""

    jobs: list[Thread]  # type: ignore[assignment]  # no others are made

    def __init__(self) -> None:
        super().__init__()
        self.abandoned = False

    def lock(self, fd: int, *, shared: bool) -> None:
        job = self.this_job()
        job.wants = fd, shared
        while not self.try_lock(fd, shared=shared):
            job.pause()
            if self.abandoned:
                raise OSError(errno.EINTR, "abandoned")
        job.wants = None
        if self.fds[fd] == self.files.get(GATE):
            job.overtaken = 0

    def this_job(self) -> Thread:
        return next(job for job in self.jobs if job.thread is threading.current_thread())

    def can_go_on(self, job: Thread) -> bool:
        if job.wants is None:
            return True
        fd, shared = job.wants
        held = self.locks.get(self.fds[fd], {})
        return all(shared and other for number, other in held.items() if number != fd)

    def submit(
        self, func: Callable[[], None], callback: Callable[[None, BaseException | None], object]
    ) -> None:
        self.jobs.append(Thread(func, callback))

    def abandon(self) -> None:
        self.abandoned = True
        for job in list(self.jobs):
            while not job.done:
                self.step(job)


class Person:
    """A task that takes the lock some times, and what is under way with it."""

    def __init__(self, process: int, wishes: str, lock: FileLock) -> None:
        self.process = process
        self.wishes = wishes
        self.lock = lock
        self.turn = 0
        self.coro: Coroutine[asyncio.Future[bool], None, None] | None = None
        self.future: asyncio.Future[bool] | None = None
        self.cancelled = False
        self.inside = False
        self.leaving = False  # the files are removed: others may have a new lock by now
        self.came = 0
        self.seen = False  # its grant is counted

    @property
    def wish(self) -> str:
        return self.wishes[self.turn]

    @property
    def over(self) -> bool:
        return self.turn == len(self.wishes)

    @property
    def granted(self) -> bool:
        future = self.future
        return (
            future is not None
            and future.done()
            and not future.cancelled()
            and future.exception() is None
            and future.result()
        )


class World:
    """The processes with their queues, their tasks and the kernel between them."""

    def __init__(self, setting: Setting) -> None:
        self.system = Kernel()
        self.loops = [StandingLoop() for _ in setting.processes]
        self.queues = []
        self.people: list[Person] = []
        for number, (tasks, loop) in enumerate(zip(setting.processes, self.loops, strict=True)):
            queue = PathQueue(self.system, PATH, GATE, loop=loop)  # type: ignore[arg-type]  # as above
            queue._slot = number
            _queue._skips[number] = 0
            self.queues.append(queue)
            for wishes in tasks:
                lock = FileLock(PATH)
                lock._queue = queue
                self.people.append(Person(number, wishes, lock))
        self.cancels = setting.cancels
        self.may_give_up = setting.gives_up
        self.clock = 0

    # What can happen

    def actions(self) -> Iterator[Action]:
        for number, person in enumerate(self.people):
            if person.over:
                continue
            if person.inside:
                yield ("release", number)
                if person.wish == "X" and not person.leaving and PATH in self.system.files:
                    yield ("unlink", number)
            elif person.coro is None:
                yield ("want", number)
            else:
                if person.future is not None and person.future.done():
                    yield ("wake", number)
                if self.cancels and not person.cancelled:
                    yield ("cancel", number)
        yield from self.inner_actions()
        if self.may_give_up and self.system.idle._kept:
            yield ("give up", 0)

    def inner_actions(self) -> Iterator[Action]:
        """What goes on without anybody's doing."""
        for number, loop in enumerate(self.loops):
            if loop.ready:
                yield ("call", number)
        for number, job in enumerate(self.system.jobs):
            if self.system.can_go_on(job):
                yield ("thread", number)

    def do(self, action: Action) -> None:
        name, number = action
        self.clock += 1
        if name == "call":
            func, args = self.loops[number].ready.popleft()
            self._in_loop(number, lambda: func(*args))
        elif name == "thread":
            self.system.step(self.system.jobs[number])
        elif name == "give up":
            self.system.idle.give_up()
            self.may_give_up = False
        else:
            person = self.people[number]
            self._in_loop(person.process, lambda: getattr(self, f"_{name}")(person))
        self._count_grants()
        self.check()

    def _in_loop(self, number: int, func: Callable[[], object]) -> None:
        asyncio._set_running_loop(self.loops[number])  # type: ignore[arg-type]  # as above
        try:
            func()
        finally:
            asyncio._set_running_loop(None)

    def _want(self, person: Person) -> None:
        person.came = self.clock
        person.seen = False
        person.coro = person.lock.acquire(shared=person.wish == "s")
        self._go_on(person)

    def _wake(self, person: Person) -> None:
        person.future = None
        self._go_on(person)

    def _go_on(self, person: Person) -> None:
        """What a task's step does (asyncio.tasks.Task.__step)."""
        assert person.coro is not None
        try:
            if person.cancelled:
                person.future = person.coro.throw(asyncio.CancelledError())
            else:
                person.future = person.coro.send(None)
        except StopIteration:
            person.coro, person.inside = None, True
        except asyncio.CancelledError:
            person.coro = None
            person.turn = len(person.wishes)
            if person.lock.locked:
                raise WrongError("a cancelled acquire holds the lock") from None

    def _cancel(self, person: Person) -> None:
        assert person.future is not None
        person.cancelled = True
        self.cancels -= 1
        person.future.cancel()  # in vain when it is done: then the next step is told

    def _release(self, person: Person) -> None:
        person.inside = person.leaving = False
        person.turn += 1
        person.lock.release()

    def _unlink(self, person: Person) -> None:
        self.system.files.pop(GATE, None)
        self.system.unlink(PATH)
        person.leaving = True

    # What must hold

    def _count_grants(self) -> None:
        for person in self.people:
            if person.seen or not (person.inside or person.granted):
                continue
            person.seen = True
            for job in self.system.jobs:
                if job.overtaken is not None and job.number != person.process:
                    job.overtaken += 1
                    if job.overtaken > _queue.BATCH + _queue.SKIPS:
                        raise WrongError(
                            f"the first at the gate was overtaken {job.overtaken} times"
                        )
            for other in self.people:
                if (
                    other.process == person.process
                    and other.came < person.came
                    and other.future is not None
                    and not other.future.done()
                ):
                    raise WrongError("a task was let in before one that had come first")

    def check(self) -> None:
        inside = [each for each in self.people if each.inside and not each.leaving]
        if len(inside) > 1 and not all(each.wish == "s" for each in inside):
            raise WrongError("a writer isn't alone")
        for person in inside:
            hold = self.queues[person.process]._hold
            if hold is None or not self.system.locks.get(hold.inode, {}).keys() & {hold.fd}:
                raise WrongError("somebody is inside without the kernel's lock")
        if (
            any(each.future is not None and not each.future.done() for each in self.people)
            and not any(each.inside or each.granted for each in self.people)
            and not any(True for _ in self.inner_actions())
        ):
            raise WrongError("somebody waits for nobody")

    def end(self) -> None:
        """Let everything come to its end; whoever waits must be served, and nothing be left."""
        for _ in range(500):
            # Those who would begin anew stay away.
            left = [each for each in self.actions() if each[0] in {"release", "wake"}]
            left += list(self.inner_actions())
            if not left:
                break
            self.do(left[0])
        if any(each.coro is not None for each in self.people):
            raise WrongError("somebody was never served")
        if self.system.jobs:
            raise WrongError("a thread was left")
        self.system.idle.give_up()
        if self.system.fds:
            raise WrongError("a descriptor was left")

    def abandon(self) -> None:
        """After something went wrong: no thread may stay behind."""
        for person in self.people:
            person.lock._held = False
            if person.coro is not None:
                person.coro.close()
        self.system.abandon()

    # What tells states apart

    def state(self) -> object:
        inodes: dict[Inode, int] = {}

        def named(inode: Inode | None) -> int:
            return -1 if inode is None else inodes.setdefault(inode, len(inodes))

        system = self.system
        names = [named(system.files.get(each)) for each in (PATH, GATE)]
        numbers: dict[int, int] = {}

        def opened(fd: int) -> tuple[int, bool | None]:
            numbers.setdefault(fd, len(numbers))
            inode = system.fds.get(fd)
            held = system.locks.get(inode, {}).get(fd) if inode is not None else None
            return named(inode), held

        queues = []
        tickets = {id(each.future): number for number, each in enumerate(self.people)}
        for number, queue in enumerate(self.queues):
            hold = queue._hold
            queues.append(
                (
                    None if hold is None else (opened(hold.fd), hold in system.idle._kept),
                    queue._holders,
                    queue._readers,
                    tuple(tickets.get(id(each.future), -1) for each in queue._waiting),
                    None if queue._attempt is None else id(queue._attempt.future) in tickets,
                    queue._attempt is not None and queue._attempt in queue._waiting,
                    queue._turns,
                    _queue._skips[number],
                    tuple(
                        (args[0]._got, args[0]._hold and opened(args[0]._hold.fd), args[1] is None)
                        for _, args in self.loops[number].ready
                    ),
                )
            )
        jobs = [
            (
                job.number,
                job.wants and (opened(job.wants[0]), job.wants[1]),
                job.overtaken,
                tuple(opened(fd) for fd in job.fds()),
            )
            for job in system.jobs
        ]
        people = [
            (
                each.turn,
                each.coro is not None,
                _outcome(each.future),
                each.cancelled,
                each.inside,
                each.leaving,
                sorted(other.came for other in self.people).index(each.came),
            )
            for each in self.people
        ]
        return repr((names, queues, jobs, people, self.cancels, self.may_give_up))


def _outcome(future: asyncio.Future[bool] | None) -> str:
    if future is None:
        return "none"
    if not future.done():
        return "waits"
    if future.cancelled():
        return "cancelled"
    return "failed" if future.exception() is not None else str(future.result())


def search(setting: Setting, *, limit: int | None = None) -> int:
    """Go every way, or so many runs' worth of ways; how many states were seen.

    Raises WrongError with the events that led to what must not be.
    """
    untried: dict[object, tuple[list[Action], list[Action]]] = {}
    open_states: deque[object] = deque()
    runs = 0

    def meet(world: World, path: list[Action]) -> object | None:
        state = world.state()
        if state in untried:
            return None
        untried[state] = (list(path), list(world.actions()))
        open_states.append(state)
        return state

    start: object | None = None
    while start is None or open_states:
        if limit is not None and runs >= limit:
            break
        runs += 1
        world = World(setting)
        path: list[Action] = []
        try:
            if start is None:
                start = here = meet(world, path)
            else:
                # In turns from both ends: shallow states are many, deep ones are where bugs live.
                here = open_states[0] if runs % 2 else open_states[-1]
                for action in untried[here][0]:
                    path.append(action)
                    world.do(action)
            while here is not None:
                left = untried[here][1]
                if not left:
                    break
                action = left.pop()
                if not left and here in open_states:
                    open_states.remove(here)
                path.append(action)
                world.do(action)
                here = meet(world, path)
            world.end()
        except WrongError as error:
            world.abandon()
            told = ", ".join(f"{name} {number}" for name, number in path)
            raise WrongError(f"{error} after: {told}") from error
        except BaseException:
            world.abandon()
            raise
        while open_states and not untried[open_states[0]][1]:
            open_states.popleft()
        while open_states and not untried[open_states[-1]][1]:
            open_states.pop()
    return len(untried)
