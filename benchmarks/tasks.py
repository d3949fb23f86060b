"""What workers can be told, and what they answer. Times are seconds of the monotonic clock."""

from __future__ import annotations

import msgspec


class Task(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One command. `lock` names a kind of lock in `locks`, `path` is its file."""

    lock: str
    path: str
    start: float


class Contend(Task, frozen=True, kw_only=True):
    """Take the lock again and again in `tasks` tasks, `hold` inside and `pause` outside each time."""

    seconds: float
    tasks: int
    hold: float
    pause: float | None = None
    shared: bool = False


class Contended(msgspec.Struct, frozen=True, kw_only=True):
    """How often each task came in, each wait in microseconds, and the cpu seconds of it all.

    The wait that a task was in at the end counts as far as it got.
    """

    counts: list[int]
    waits: list[int]
    cpu: float


class Give(Task, frozen=True, kw_only=True):
    """Hold the lock and release it at each of these times after the start; tell when it was."""

    core: int
    take_at: list[float]
    release_at: list[float]


class Take(Task, frozen=True, kw_only=True):
    """Ask for the lock at each of these times after the start; tell when it came."""

    core: int
    ask_at: list[float]


class Storm(Task, frozen=True, kw_only=True):
    """Let `waiters` tasks wait for the lock, held by somebody else, and cancel them all at once.

    With `patience` also wait so many seconds for threads to end. Then the `storms`: of a few waiters
    some are cancelled in the instant of a release.
    """

    waiters: int
    patience: float = 0.0
    storms: int = 0
    seed: int = 0


class Stormed(msgspec.Struct, frozen=True, kw_only=True):
    """What that cost: seconds, and threads more than before. `lost` grants reached nobody."""

    cancelling: float
    threads: int
    threads_later: int | None
    lost: int


class Crowd(Task, frozen=True, kw_only=True):
    """Let so many tasks wait for the lock; tell how many kilobytes that takes."""

    waiters: int


AnyTask = Contend | Give | Take | Storm | Crowd
