"""One verb at a time: find its points, disturb each, and see what is left.

The driver runs no event loop. It forks an engine for every point, traces it while it does the verb,
and asks another process, the judge, what is true afterwards. It is the sub-reaper of all of them, so
nothing that they leave escapes it.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import os
import shutil
import signal
import tempfile
import time
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.helpers import reality, reaping, truth
from tests.sweep import boxes, pods
from tests.sweep.bystanders import Bystanders, orphans, strays
from tests.sweep.calls import errnos_of
from tests.sweep.judge import Judge
from tests.sweep.naming import is_ours, name_child, name_program
from tests.sweep.stage import Outcome, Stage
from tests.sweep.tracer import Point, Tracer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.reality import Seen
    from tests.sweep.verb import Verb

_SECONDS = 30.0  # within which every verb ends, whoever is killed: its own bounds are shorter
_SETTLING_SECONDS = 5.0
_TRIES = 5  # at a point that the verb didn't come to this time
# Calls on something that has a path, which their errors are to name.
_WITH_PATH = {"openat", "mkdir", "mkdirat", "renameat", "unlink", "unlinkat", "rmdir", "bind"} | {
    "fsync", "connect", "chdir", "execve"
}  # fmt: skip


class Found(NamedTuple):
    """An undisturbed run: its points in order, and what is listed before and after it."""

    points: list[Point]
    before: list[str]
    after: list[str]

    @classmethod
    def of(cls, data: list[Any]) -> Found:
        """As it was sent by another process."""
        points, before, after = data
        return cls([Point(*each) for each in points], before, after)


class Result(NamedTuple):
    """What became of one disturbed run. `hit` False: the verb never came to the point."""

    verb: str
    point: Point
    errno: str
    hit: bool
    faults: list[str]
    outcome: Outcome | None
    seconds: float


class Sweep:
    """A root with its judge, and the means to disturb verbs on it."""

    def __init__(self, names: dict[str, Verb]) -> None:
        reaping.become_subreaper()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._directory = tempfile.mkdtemp(prefix="asyncrt-sweep-", dir=base)
        self.root = f"{self._directory}/root"
        os.mkdir(self.root, 0o700)
        self._stderr = f"{self._directory}/stderr"
        self._verbs = names
        self._left = boxes.Left(self.root)
        if any(_is_boxed(each) for each in names):
            boxes.make_rootfs(self.root)
        self._judge = Judge(self.root, names)
        self._bystanders = Bystanders(self.root, ())

    def __enter__(self) -> Self:
        self._judge.ask("run")  # from here on no interpreter writes bytecode
        return self

    def __exit__(self, *error: object) -> None:
        reaping.kill_all(reaping.children() - {self._judge.pid})
        self._judge.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- one run

    def find(self, name: str) -> Found:
        """Do the verb undisturbed."""
        stage, tracer = self._traced(name)
        before = self._judge.ask("list")
        stage.go()
        fine = tracer.run(_SECONDS)
        outcome = self._outcome(stage)
        if not fine or outcome is None or outcome.error:
            raise RuntimeError(f"{name} fails undisturbed: {outcome} {self._said()}")
        after = self._judge.ask("list")
        self._judge.ask("delete")
        self._end(stage)
        return Found(tracer.points, before, after)

    def disturb(self, name: str, found: Found, point: Point, errno: str = "") -> Result:
        """Kill, or with `errno` fail, at this point; again where the verb doesn't come to it."""
        for _ in range(_TRIES - 1):
            result = self._disturb(name, found, point, errno)
            if result.hit or result.faults:
                return result
        return self._disturb(name, found, point, errno)

    def _disturb(self, name: str, found: Found, point: Point, errno: str) -> Result:
        begun = time.monotonic()
        stage, tracer = self._traced(name)
        tracer.aim(point.key, getattr(errnos, errno) if errno else 0)
        stage.go()
        faults = []
        if not tracer.run(_SECONDS):
            tracer.let_go(_SETTLING_SECONDS)
        outcome = self._outcome(stage)
        lives = outcome is not None
        if not lives and (errno or point.who != "engine" or tracer.hit is None):
            faults.append(f"no outcome in {_SECONDS} s")
        seconds = time.monotonic() - begun
        hit = tracer.hit is not None
        with self._noting(faults):
            faults += self._judged(name, found, point, errno, outcome)
            faults += self._end(stage)
        if faults:
            self._clear(stage)
        return Result(name, point, errno, hit, faults, outcome, seconds)

    @contextlib.contextmanager
    def _noting(self, faults: list[str]) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the sweep goes on, and tells of it
            faults.append(f"judging failed: {error!r}")

    def _traced(self, name: str) -> tuple[Stage, Tracer]:
        Path(self._stderr).write_bytes(b"")
        stage = Stage(self.root, self._verbs[name], self._stderr)
        if not stage.answers(_SECONDS) or stage.line() != "ready":
            raise RuntimeError(f"{name} couldn't be prepared: {self._said()}")
        self._until_still(stage.pid)
        self._bystanders = Bystanders(self.root, self._verbs[name].untouched)
        tracer = Tracer(is_ours, name_child, name_program)
        tracer.attach_below(stage.pid, "engine")
        return stage, tracer

    def _until_still(self, pid: int) -> None:
        """Until the spare pair of the engine waits: what it does now is of no verb."""

        def moving() -> bool:
            below = reality.below(pid)
            servers = [each for each in below if each.ppid == pid and is_ours(each.pid)]
            ready = reality.spares(below)
            waits = all(each.state == "S" for each in below if is_ours(each.pid))
            return not waits or (bool(servers) and not ready)

        # A fork server may be asleep for an instant on its way: it has to be so twice.
        for _ in range(2):
            reality.settles(moving)

    def _outcome(self, stage: Stage) -> Outcome | None:
        if not stage.answers(_SECONDS):
            return None
        line = stage.line()
        return None if line is None else Outcome(*line)

    def _said(self) -> str:
        return Path(self._stderr).read_text(errors="replace")

    # --- what is true afterwards

    def _judged(
        self, name: str, found: Found, point: Point, errno: str, outcome: Outcome | None
    ) -> list[str]:
        faults = []
        if wrong := reality.settles(partial(truth.lies, self.root), seconds=_SETTLING_SECONDS):
            faults.append(f"a lie: {wrong}")
        if locked := reality.settles(partial(reality.locked_files, self.root)):
            faults.append(f"still locked: {locked}")
        if wrong := reality.settles(self._disagreement, seconds=_SETTLING_SECONDS):
            faults.append(f"list and state: {wrong}")
        listed = self._judge.ask("list")
        if outcome is not None:
            verb = self._verbs[name]
            faults += _faults_of(verb, found, listed, point, errno, outcome)
        if set(listed) == {"stopped"} and (alive := reality.settles(self._workload)):
            faults.append(f"stopped, but there is {alive}")
        if outcome is None and self._verbs[name].owned and (alive := reality.settles(self._strays)):
            faults.append(f"its owner is gone, but there is {alive}")
        if "caller" not in name and not point.who.startswith("supervisor"):
            ends = self._judge.ask("ends")  # a supervisor that wasn't killed has told
            if "unknown" in ends and not self._verbs[name].orphaned:
                faults.append(f"how it ended isn't told: {ends}")
        faults += self._others_are_fine(name)
        listed_at_gate = [each for each in self._tree() if each.comm == "asyncrt:gate"]
        if not listed and listed_at_gate:
            faults.append(f"unseen: {listed_at_gate}")
        for path in reality.files(self.root):
            if path.endswith("supervisor.err"):
                faults.append(Path(self.root, path).read_text())
        faults += self._removed(name, point, errno)
        if said := self._said():
            faults.append(f"stderr: {said}")
        return faults

    def _disagreement(self) -> object:
        """What list and state, asked one after the other, say of one container that differs."""
        listed = self._judge.ask("list")
        return listed if not isinstance(listed, list) or any(" " in each for each in listed) else []

    def _workload(self) -> list[Seen]:
        return [each for each in self._tree() if each.mark]

    def _others_are_fine(self, name: str) -> list[str]:
        """Those beside it are what they were, and nothing runs that belongs to nobody."""
        if not name.startswith(pods.NAME):
            return []
        faults = []
        if wrong := reality.settles(self._bystanders.touched):
            faults.append(f"touched: {wrong}")
        if wrong := reality.settles(partial(orphans, self.root)):
            faults.append(f"nobody's: {wrong}")
        return faults

    def _recovered(self, name: str) -> list[str]:
        """A recovery mends all there is, and who is in a sandbox is so by each account."""
        faults = []
        if answer := self._judge.ask("gc"):
            faults.append(f"gc: {answer}")
        if wrong := reality.settles(partial(truth.lies, self.root), seconds=_SETTLING_SECONDS):
            faults.append(f"a lie after gc: {wrong}")
        if name.startswith(pods.NAME):
            if wrong := reality.settles(partial(strays, self.root, pods.ROOT)):
                faults.append(f"after gc: {wrong}")
            faults += self._others_are_fine(name)
        return faults

    def _removed(self, name: str, point: Point, errno: str) -> list[str]:
        """The verb done again, or not, then removal by one of its ways: nothing is left.

        Which of these is the same in each run.
        """
        faults = []
        at = f"{name} {point.key} {errno}"
        way = 2 if self._verbs[name].for_gc else zlib.crc32(at.encode()) % 3
        if way == 0:
            answer = self._judge.ask("again", name)
            if isinstance(answer, dict) or (answer[0] and not _is_told(name, *answer[:2])):
                faults.append(f"again: {answer}")
            if name.startswith(pods.NAME):
                faults += self._recovered(name)
        elif way == 1:
            answer = self._judge.ask("destroy")
            if answer is not None:
                faults.append(f"destroy: {answer}")
        else:
            faults += self._recovered(name)
        answer = self._judge.ask("delete")
        if answer is not None:
            faults.append(f"delete --force: {answer}")
        if left := reality.files(self.root):
            faults.append(f"files left: {sorted(left)}")
        if _is_boxed(name) and (found := reality.settles(self._left)):
            faults.append(f"mounts or cgroups left: {found}")
            self._left.forget()
        if alive := reality.settles(self._strays):
            faults.append(f"processes left: {alive}")
        if listed := self._judge.ask("list"):
            faults.append(f"still listed: {listed}")
        answer = self._judge.ask("run")
        if answer != 0:
            faults.append(f"another run there: {answer}")
        return faults

    def _tree(self) -> list[Seen]:
        return reality.below()

    def _strays(self) -> list[Seen]:
        """What belongs to a container; what an engine keeps ready may stay as long as that."""
        return reality.containers_processes()

    def _others(self) -> list[Seen]:
        """All that descends from here, but the judge with all of its own."""
        seen = self._tree()  # before the judge's: what it forks meanwhile is in both, or in the one
        judge = {each.pid for each in reality.below(self._judge.pid)} | {self._judge.pid}
        return [each for each in seen if each.pid not in judge]

    def _end(self, stage: Stage) -> list[str]:
        """Let the engine close: it holds nothing open, and nothing of it is left."""
        faults = []
        stage.go()
        left = "no answer"
        if stage.answers(_SECONDS):
            left = stage.line()
        else:
            os.kill(stage.pid, signal.SIGKILL)
        if left:  # None of one that was killed
            faults.append(f"descriptors left in the engine: {left}")
        stage.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(stage.pid, 0)
        if alive := reality.settles(self._others, seconds=_SETTLING_SECONDS):
            faults.append(f"processes left after the engine: {alive}")
        return faults

    def _clear(self, stage: Stage) -> None:
        """Whatever went wrong is of no concern to the next point."""
        for each in self._others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(stage.pid, 0)
        reality.settles(self._others)
        for name in os.listdir(self.root):
            path = f"{self.root}/{name}"
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)


def _is_boxed(name: str) -> bool:
    """Whether such a verb's containers may leave mounts and cgroups."""
    return name.startswith((boxes.NAME, pods.NAME))


def _is_told(name: str, error: str, text: str) -> bool:
    """Whether that is what doing it again has to say: some verbs need a supervisor, which was killed."""
    verb = name
    for each in (f"{boxes.NAME} ", f"{pods.NAME} ", "mapped ", "host "):
        verb = verb.removeprefix(each)
    needs = verb.startswith(("exec", "renew", "lease", "attach", "export"))
    beside = name.startswith(pods.NAME) and verb.startswith("create")
    return (needs or beside) and error == "SandboxUnresponsive" and "supervisor is gone" in text


def _faults_of(
    verb: Verb, found: Found, listed: list[str], point: Point, errno: str, outcome: Outcome
) -> list[str]:
    """Whether what the verb said goes with what is listed."""
    faults = []
    if not outcome.ours:
        faults.append(f"raised {outcome.error}: {outcome.text}")
    # Where somebody was killed any container may have ended; that a call failed ends it only where
    # the verb says so.
    killed = not errno or outcome.error == "StartFailed" or verb.stops
    if not outcome.error:
        # Who keeps leases, and ends a sandbox with its root, was killed: they live on (README, what is lost).
        unkept = (verb.owned or verb.unkept) and killed and point.who.startswith("supervisor")
        if not _is_like(listed, found.after, killed=killed) and not (
            unkept and _is_like(listed, found.before, killed=verb.unkept)
        ):
            faults.append(f"succeeded, but {listed} instead of {found.after}")
        return faults
    if errno == "EINTR":
        faults.append(f"EINTR was seen: {outcome.error}: {outcome.text}")
    elif errno:
        number = getattr(errnos, errno)
        if outcome.errno != number and os.strerror(number) not in outcome.text:
            faults.append(f"names no {errno}: {outcome.error}: {outcome.text}")
        if point.call in _WITH_PATH and not (outcome.path or "/" in outcome.text):
            faults.append(f"names no path: {outcome.error}: {outcome.text}")
    expected = [found.before, found.after]
    if outcome.error == "HookFailed":
        # It takes its container along.
        expected += [
            [*found.before[:at], *found.before[at + 1 :]] for at in range(len(found.before))
        ]
        expected += [[]] * (not found.before)
    if verb.in_steps or any(_is_like(listed, each, killed=killed) for each in expected):
        return faults
    faults.append(f"failed ({outcome.text}), and {listed} instead of {found.before}")
    return faults


def _is_like(listed: list[str], expected: list[str], *, killed: bool) -> bool:
    """Whether these are those statuses, in any order; `killed`: some may have stopped instead."""
    more = Counter(listed) - Counter(expected)
    less = Counter(expected) - Counter(listed)
    return more.total() == less.total() and (not more or (killed and set(more) == {"stopped"}))


def disturbances(found: Found, *, errno: bool) -> list[tuple[Point, str]]:
    """What is to be tried: each point killed or, with `errno`, each errno of each point."""
    if not errno:
        return [(point, "") for point in found.points]
    return [
        (point, each)
        for point in found.points
        for each in (("EINTR",) if point.to else errnos_of(point.call))
    ]
