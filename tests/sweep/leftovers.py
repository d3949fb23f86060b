"""gc, on a root where each kind of what it mends is there, and the rotation of the log of events."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt import AsyncrtError, Spec
from asyncrt.state import Deletion, ExitResult, Leased, event_log, read_record
from asyncrt.status import Status
from tests.helpers import reality
from tests.helpers.containers import shell_hook
from tests.helpers.records import MOMENT, dead_identity, make_record, put_exit, put_record
from tests.sweep.verb import ID, MARK, Verb, ended, null, spec, warm

if TYPE_CHECKING:
    from asyncrt import Container, Engine
    from asyncrt.state import Record


_UNKEPT_SECONDS = 5.0


class IncompleteError(AsyncrtError):
    """What a recovery couldn't mend, as it would be told."""


def _put(root: str, record: Record, config: bytes = b'{"ociVersion": "1.2.0"}') -> None:
    put_record(root, record)
    os.makedirs(f"{root}/{record.id}.d", mode=0o700, exist_ok=True)
    with open(f"{root}/{record.id}.d/config.json", "wb") as file:
        file.write(config)


async def _left(engine: Engine) -> None:
    root = engine.root
    dead = dead_identity()
    stopped = {
        "status": Status.STOPPED,
        "exit": ExitResult(exit_code=0, reason="exit", finished_at=MOMENT),
    }
    _put(root, make_record("begun", status=Status.CREATING, creator=dead))
    hooks = {"poststop": [shell_hook("exit 0")]}
    going = Spec.command(["/bin/true"], env=reality.marking(MARK), hooks=hooks)
    deletion = Deletion(poststop=("begun",))
    record = make_record("going", hooks=("poststop",), deletion=deletion, **stopped)
    _put(root, record, going.encoded())
    _put(root, make_record("left", lease=Leased(0.0, (dead,)), **stopped))
    put_record(root, make_record("halfway", **stopped))
    put_exit(root, ID)
    _put(root, make_record(ID, init=dead, supervisor=dead))
    for name in ("vacant.lock", "vacant.queue", ".gone.state~", f".{ID}.state~"):
        with open(f"{root}/{name}", "w"):
            pass
    os.mkdir(f"{root}/.gone.d~")
    await _lose(engine, "stray")


async def _lose(engine: Engine, id: str) -> None:
    """A supervisor and its init that no record names any more."""
    await engine.create(id, spec=spec(), **null())
    root = engine.root
    os.unlink(f"{root}/{id}.state")
    os.rename(f"{root}/{id}.d", f"{root}/.{id}.d~")


async def _recover(engine: Engine, _: None) -> None:
    report = await engine.recover()
    if not report.complete:
        failed = report.of("failed")
        raise IncompleteError("; ".join(f"{each.path or each.id}: {each.why}" for each in failed))


async def _full(engine: Engine) -> Container:
    """The next line begins a new log."""
    container = await engine.create(ID, spec=spec(), **null())
    event_log.ROTATE_BYTES = 1  # in this process, which is for one run
    return container


async def _watch(engine: Engine, container: Container) -> None:
    async for event in engine.watch(after="oldest"):
        if event.id == container.id:
            return


async def _created(engine: Engine) -> Container:
    return await engine.create(ID, spec=spec(), **null())


async def _two(engine: Engine) -> list[Container]:
    both = [await engine.create(each, spec=spec(), **null()) for each in (ID, f"{ID}2")]
    await both[0].start()
    return both


async def _destroy_many(engine: Engine, both: list[Container]) -> None:
    results = await engine.destroy_many(both)
    for each in results.values():
        if each is not None:
            raise each


async def _expire(engine: Engine, _: None) -> None:
    """Its deadline ends it; one whose supervisor was killed has none any more."""
    container = await engine.create(ID, spec=spec(), deadline_seconds=0.05, **null())
    await container.start()
    try:
        await container.wait(_UNKEPT_SECONDS)
    except TimeoutError:
        await container.kill("KILL")
        await container.wait()
    await ended(read_record(engine.root, ID).supervisor)


def verbs() -> dict[str, Verb]:
    """By name; they need a supervisor."""
    return {
        "gc": Verb(_left, _recover, creates=True, in_steps=True, for_gc=True),
        "rotation of events": Verb(_full, lambda e, c: c.pause()),
        "watch": Verb(_created, _watch),
        "destroy many": Verb(
            _two, _destroy_many, again=lambda e, c: _destroy_many(e, [c]), in_steps=True
        ),
        "deadline": Verb(warm, _expire, creates=True, in_steps=True),
    }
