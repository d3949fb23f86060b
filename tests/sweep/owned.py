"""The verbs of leases and of the warm pool: what goes with its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncrt import Lease
from asyncrt.state import read_record
from tests.helpers.processes import until
from tests.sweep.verb import ID, Verb, by_another, ended, null, spec, warm

if TYPE_CHECKING:
    from asyncrt import Container, Engine, Pool

_HEIR = Lease(3600)  # of who takes over: another process may do so later


async def _attached(engine: Engine) -> Container:
    return await engine.create(ID, spec=spec(), lease=Lease(0), **null())


async def _running(engine: Engine) -> Container:
    container = await _attached(engine)
    await container.start()
    return container


async def _unowned(engine: Engine) -> Container:
    container = await engine.create(ID, spec=spec(), **null())
    await container.start()
    return container


async def _close(engine: Engine, _: Container) -> None:
    """The owner goes; what follows is the supervisor's alone."""
    supervisor = read_record(engine.root, ID).supervisor
    await engine.close()
    await ended(supervisor)


async def _run(engine: Engine, _: None) -> None:
    await engine.run(ID, spec=spec("/bin/true"), lease=Lease(0), **null())


async def _run_for_a_block(engine: Engine, _: None) -> None:
    async with engine.running(ID, spec=spec(), lease=Lease(0), **null()):
        pass


def _pool(engine: Engine, size: int) -> Pool:
    return engine.pool(spec=spec(), size=size, prefix=ID, **null())


async def _open(engine: Engine) -> Pool:
    return await _pool(engine, 1).__aenter__()


async def _take(_: Engine, pool: Pool) -> None:
    """Till the stock is full again: the refilling is a part of it."""
    try:
        await pool.take()
    finally:
        await _filled(pool)


async def _filled(pool: Pool) -> None:
    while not pool.ready:
        await until(lambda: bool(pool.ready) or not pool._wanted.is_set(), "it is full or failed")
        if not pool.ready:
            await (await pool.take()).destroy()  # it tries again for the next taker


async def _use(engine: Engine, _: Any) -> None:
    """Another process has a pool of its own."""
    async with _pool(engine, 1) as pool:
        await (await pool.take()).destroy()


def verbs() -> dict[str, Verb]:
    """By name; they need a supervisor."""
    return {
        "create attached": Verb(warm, lambda e, _: _attached(e), creates=True, owned=True),
        "start attached": Verb(_attached, lambda e, c: c.start(), owned=True),
        "run attached": Verb(warm, _run, creates=True, owned=True, in_steps=True),
        "running": Verb(warm, _run_for_a_block, creates=True, owned=True, in_steps=True),
        "lease": Verb(_unowned, lambda e, c: c.renew(Lease(0))),
        "lease loaded": Verb(by_another(_unowned), lambda e, c: c.renew(Lease(0))),
        "renew": Verb(_running, lambda e, c: c.renew(_HEIR)),
        "renew for nobody": Verb(_running, lambda e, c: c.renew(None)),
        "owner's end": Verb(_running, _close, again=lambda e, c: c.stop(), owned=True),
        "pool open": Verb(
            warm, lambda e, _: _pool(e, 2).__aenter__(), creates=True, again=_use, owned=True
        ),
        "pool take": Verb(_open, _take, creates=True, again=_use, owned=True),
        "pool close": Verb(
            _open, lambda e, p: p.close(), creates=True, again=_use, owned=True, stops=True
        ),
    }
