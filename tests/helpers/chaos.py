"""Processes full of tasks that do random verbs on few ids, and two independent ways to judge them.

The first witness is a log: one O_APPEND write a line, each written while the lock is held, so that
the order of lines is the order of what happened. From it come the legal sequences of each instance
and proof that no two holders of a lock overlapped. The second is the kernel: workloads carry a mark
in their environment, and an auditor who holds the lock compares them with the record.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import uuid
from collections import Counter, defaultdict
from typing import Any, Literal

import asyncrt
from asyncrt import _libc, errors
from asyncrt.state import removal
from asyncrt.state import state_file as state_files
from asyncrt.status import SUCCESSORS, Status
from tests.helpers import reality
from tests.helpers.processes import until

IDS = ("a", "ab", "b", "c", "cd")
NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

# What a verb may say when others are at the same container. Anything else is a fault.
EXPECTED = (
    errors.ContainerNotFound,
    errors.ContainerExists,
    errors.AmbiguousId,
    errors.InvalidTransition,
    errors.ContainerBusy,
    errors.SandboxUnresponsive,
    errors.StartFailed,
)


class Log:
    """Lines that all processes append to."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, what: str, id: str, **fields: object) -> None:
        line = {"what": what, "id": id, "pid": os.getpid(), **fields}
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def witness(log: Log) -> None:
    """Have every lock, save, destroy and unlock in this process written down while it is held."""
    cls = state_files.StateFile
    acquire, unlock = cls._acquire, cls.unlock
    save, clear, remove_lock_files = cls._save, cls._clear, removal.remove_lock_files

    holding: set[int] = set()  # not those that only sweep up a lock file

    async def acquired(self: Any, **options: Any) -> None:
        await acquire(self, **options)
        log.write("locked", self.id, holder=f"{os.getpid()}/{id(self)}")
        holding.add(id(self))

    def unlocked(self: Any) -> None:
        if self.locked and id(self) in holding:
            holding.remove(id(self))
            log.write("unlocked", self.id, holder=f"{os.getpid()}/{id(self)}")
        unlock(self)

    def saved(self: Any, record: Any) -> None:
        save(self, record)
        log.write(
            "saved",
            self.id,
            instance=record.instance,
            revision=record.revision,
            status=str(record.status),
            paused_from=str(record.paused_from or ""),
        )

    def cleared(self: Any) -> None:
        clear(self)
        log.write("cleared", self.id)

    def destroyed(root: str, container_id: str) -> None:
        # The last step: as soon as the lock's file is gone the id is anybody's.
        log.write("destroyed", container_id)
        remove_lock_files(root, container_id)

    def swept(root: str, container_id: str) -> None:
        log.write("swept", container_id)  # a lock's file that was of no container
        remove_lock_files(root, container_id)

    changes = {
        "_acquire": acquired,
        "unlock": unlocked,
        "_save": saved,
        "_clear": cleared,
    }
    removal.remove_lock_files = destroyed
    vars(state_files)["remove_lock_files"] = swept
    for name, function in changes.items():
        setattr(cls, name, function)


class Worker:
    """One process: tasks that do random verbs until the time is up."""

    def __init__(self, engine: asyncrt.Engine, log: Log, seed: int, *, forced: bool = True) -> None:
        self.engine = engine
        self.log = log
        self.chance = random.Random(seed)
        self.forced = forced  # whether containers are deleted while they are being created
        self.faults: list[str] = []

    async def work(self, tasks: int, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(self._task(end))

    async def _task(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            id = self.chance.choice(IDS)
            verb = self.chance.choice(VERBS)
            try:
                if self.chance.random() < 0.15:
                    async with asyncio.timeout(self.chance.random() * 0.02):
                        await self._do(verb, id)
                else:
                    async with asyncio.timeout(40):
                        await self._do(verb, id)
                self.log.write("done", id, verb=verb)
            except EXPECTED as error:
                self.log.write("refused", id, verb=verb, error=type(error).__name__)
            except TimeoutError as error:
                self.log.write("cancelled", id, verb=verb)
                if loop.time() > end + 30:
                    self.faults.append(f"{verb} {id} hung: {error!r}")
            except Exception as error:
                self.faults.append(f"{verb} {id}: {error!r}")

    async def _do(self, verb: str, id: str) -> None:
        engine = self.engine
        if verb == "create":
            await self._create(id)
        elif verb == "run":
            spec = asyncrt.Spec.command(["/bin/true"], env=reality.marking(uuid.uuid4().hex))
            result = await engine.run(id, spec=spec, **NULL)
            if result.exit.exit_code not in {0, None}:
                self.faults.append(f"run {id}: {result.exit}")
        elif verb == "list":
            broken = [view for view in await engine.list() if view.broken is not None]
            if broken:
                self.faults.append(f"list: {broken}")
        elif verb == "delete force":
            if self.forced:
                await engine.delete(id, force=True)
        elif verb == "audit":
            await self._audit(id)
        else:
            await self._act(verb, await engine.load(id))

    async def _create(self, id: str) -> None:
        mark = uuid.uuid4().hex
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"], env=reality.marking(mark))
        supervision: Literal["own", "caller"] = self.chance.choice(("own", "own", "own", "caller"))
        container = await self.engine.create(id, spec=spec, supervision=supervision, **NULL)
        self.log.write("created", id, instance=container.instance, mark=mark)

    async def _act(self, verb: str, container: asyncrt.Container) -> None:
        if verb == "start":
            await container.start()
            self.log.write("started", container.id, instance=container.instance)
        elif verb in {"pause", "resume", "destroy", "delete", "processes"}:
            await getattr(container, verb)()
        elif verb == "term":
            await container.kill("TERM")
        elif verb == "kill":
            await container.kill("KILL", all=True)
        elif verb == "stop":
            await container.stop(grace_seconds=0.5)
        elif verb == "exec":
            process = await container.exec(["/bin/true"], **NULL)
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:  # paused right after its start, and nobody has to resume it
                await process.kill()
                await process.wait()
        elif verb == "exec long":
            env = reality.marking(uuid.uuid4().hex, "exec")
            await container.exec(["/bin/sleep", "1000"], env=env, **NULL)
        elif verb == "wait":
            result = await container.wait(timeout=0.05)
            found = [result.exit_code, result.signal, result.reason]
            self.log.write("ended", container.id, instance=container.instance, result=found)
        else:
            raise ValueError(verb)

    async def _audit(self, id: str) -> None:
        """Under the lock nothing changes but by an exit: record and kernel must agree."""
        state = asyncrt.StateFile(self.engine.root, asyncrt.ContainerId(id))
        await state.lock(timeout=30)
        try:
            record = await state.load_locked()
            if record.init is None or record.status == "stopped":
                return
            pid = record.init.pid
            at_gate = "created" in (record.status, record.paused_from)

            def agrees() -> bool:
                seen = reality.look(pid)
                return seen is None or (
                    (seen.state in "Tt") == (record.status == "paused")
                    and (seen.comm == "asyncrt:gate") == at_gate
                )

            # A kill takes no lock: what was killed just now runs, or stands, until it is dead.
            try:
                await until(agrees, "record and kernel agree", timeout=5)
            except TimeoutError:
                self.faults.append(f"{reality.look(pid)} isn't as {record}")
        finally:
            state.unlock()


VERBS = (
    *("create",) * 4,
    *("start",) * 4,
    *("pause", "resume") * 2,
    *("term", "kill", "stop", "exec", "exec long", "wait", "wait", "processes"),
    *("destroy", "delete", "delete force", "run", "list", "audit", "audit"),
)


def main() -> None:
    """root log seed tasks seconds: a worker process; prints its faults as JSON."""
    root, path, seed, tasks, seconds = sys.argv[1:6]
    _libc.become_subreaper()  # supervisors of killed fork servers end here, not with the test
    log = Log(path)
    witness(log)

    async def work() -> list[str]:
        async with asyncrt.Engine(root) as engine:
            worker = Worker(engine, log, int(seed))
            _say("ready")
            sys.stdin.readline()
            await worker.work(int(tasks), float(seconds))
            return worker.faults

    _say(json.dumps(asyncio.run(work())))


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


# Judging the log


def judge(path: str) -> tuple[list[str], Counter[str]]:
    """What is illegal in the log, and how often each verb ended how."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    wrong = [*_overlaps(lines), *_sequences(lines), *_results(lines)]
    counts: Counter[str] = Counter()
    for line in lines:
        if line["what"] in {"done", "refused", "cancelled"}:
            counts[f"{line['verb']} {line['what']}"] += 1
    return wrong, counts


def _overlaps(lines: list[dict[str, Any]]) -> list[str]:
    wrong = []
    holder: dict[str, str] = {}
    gone: set[str] = set()  # who destroyed: they hold the lock of a file that isn't there any more
    for line in lines:
        id, what = line["id"], line["what"]
        if what == "locked":
            if id in holder:
                wrong.append(f"{id} locked by {line['holder']} while {holder[id]} held it")
            holder[id] = line["holder"]
        elif what == "unlocked":
            if line["holder"] in gone:
                gone.remove(line["holder"])
            elif holder.pop(id, None) != line["holder"]:
                wrong.append(f"{id} unlocked by {line['holder']}, who didn't hold it")
        elif what == "swept":
            if holder.get(id, "").startswith(f"{line['pid']}/"):
                gone.add(holder.pop(id))
        elif what in {"saved", "cleared", "destroyed"}:
            if not holder.get(id, "").startswith(f"{line['pid']}/"):
                wrong.append(f"{id} {what} by {line['pid']}, who didn't hold its lock")
            elif what == "destroyed":
                gone.add(holder.pop(id))
    return wrong


def _sequences(lines: list[dict[str, Any]]) -> list[str]:
    wrong = []
    now: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for line in lines:
        id = line["id"]
        if line["what"] in {"cleared", "destroyed"}:
            now.pop(id, None)
        if line["what"] != "saved":
            continue
        before = now.get(id)
        if before is None or before["instance"] != line["instance"]:
            if before is not None:
                wrong.append(f"{id}: {line} over {before}, which nobody destroyed")
            if line["instance"] in seen:
                wrong.append(f"{id}: {line} brought a destroyed instance back")
            if (line["revision"], line["status"]) != (1, "creating"):
                wrong.append(f"{id}: a life begins with {line}")
        else:
            was, becomes = Status(before["status"]), Status(line["status"])
            if line["revision"] != before["revision"] + 1:
                wrong.append(f"{id}: {line} after {before}: a save was lost")
            if becomes is not was and becomes not in SUCCESSORS[was]:
                wrong.append(f"{id}: {was} became {becomes}")
            if becomes is Status.PAUSED and line["paused_from"] != was:
                wrong.append(f"{id}: {was}, then {line}")
            if was is Status.PAUSED and becomes not in {Status.STOPPED, before["paused_from"]}:
                wrong.append(f"{id}: {before}, then {becomes}")
        seen.add(line["instance"])
        now[id] = line
    return wrong


def _results(lines: list[dict[str, Any]]) -> list[str]:
    results = defaultdict(set)
    starts: Counter[str] = Counter()
    for line in lines:
        if line["what"] == "ended":
            results[line["instance"]].add(tuple(line["result"]))
        elif line["what"] == "started":
            starts[line["instance"]] += 1
    wrong = [f"{each}: started {count} times" for each, count in starts.items() if count > 1]
    for instance, found in results.items():
        known = {each for each in found if each[2] != "unknown"}
        if len(known) > 1:
            wrong.append(f"{instance}: waiters heard different ends: {sorted(map(str, known))}")
    return wrong
