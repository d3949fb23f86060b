"""An interpreter that forks children which do one verb and are killed before their n-th step.

A step is a call that the outside can see: a file made, written, renamed or removed, a message sent,
a connection made. The forking saves an interpreter's start for each of some hundred kills.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asyncrt
from asyncrt import _csignal
from asyncrt.launch import frames
from asyncrt.sandbox import unix
from tests.helpers import reality
from tests.helpers.cgroups import limited
from tests.helpers.containers import shell_hook

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}

_STEPS: tuple[tuple[Any, str], ...] = (
    (os, "open"),
    (os, "mkdir"),
    (os, "write"),
    (os, "rename"),
    (os, "unlink"),
    (os, "rmdir"),
    (frames, "send"),
    (unix, "connect"),
    (_csignal, "pidfd_send_signal"),
)


def die_before(step: int) -> None:
    """Kill this process instead of its `step`-th step from now on, 1 being the first."""
    left = step

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            path = args[0] if args else ""
            if isinstance(path, str) and path.startswith("/proc"):
                return function(*args, **kwargs)  # a look, no step
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return counted

    for owner, name in _STEPS:
        setattr(owner, name, counting(getattr(owner, name)))


def _spec(args: tuple[str, ...] = ("/bin/sleep", "1000"), **options: Any) -> asyncrt.Spec:
    return asyncrt.Spec.command(args, env=reality.marking("crash"), **options)


async def _created(engine: asyncrt.Engine, **options: Any) -> asyncrt.Container:
    return await engine.create("web", spec=_spec(), **{**NULL, **options})


async def _caller(engine: asyncrt.Engine) -> asyncrt.Container:
    return await _created(engine, supervision="caller")


async def _running(engine: asyncrt.Engine) -> asyncrt.Container:
    container = await _created(engine)
    await container.start()
    return container


async def _paused(engine: asyncrt.Engine) -> asyncrt.Container:
    container = await _running(engine)
    await container.pause()
    return container


async def _hooked(engine: asyncrt.Engine) -> asyncrt.Container:
    hook = shell_hook("exit 0")
    spec = _spec(hooks={"poststop": [hook, hook]})
    return await engine.create("web", spec=spec, **NULL)


def cgroups_path(root: str) -> str:
    """Where containers that are limited have their cgroups."""
    return f"/asyncrt-crash-{os.path.basename(root)}/pod"


def _limited(
    engine: asyncrt.Engine, args: tuple[str, ...] = ("/bin/sleep", "1000")
) -> asyncrt.Spec:
    return limited(_spec(args), cgroups_path(engine.root), pids={"limit": 50})


async def _limited_running(engine: asyncrt.Engine) -> asyncrt.Container:
    container = await engine.create("web", spec=_limited(engine), **NULL)
    await container.start()
    return container


async def _limited_paused(engine: asyncrt.Engine) -> asyncrt.Container:
    container = await _limited_running(engine)
    await container.pause()
    return container


async def _none(engine: asyncrt.Engine) -> None:
    """No container yet, but the fork server is up."""
    await engine.run("warm", spec=_spec(("/bin/true",)), **NULL)


Verb = tuple[Callable[[asyncrt.Engine], Awaitable[Any]], Callable[[asyncrt.Engine, Any], Any]]

VERBS: dict[str, Verb] = {
    "create": (_none, lambda e, _: _created(e)),
    "create caller": (_none, lambda e, _: _caller(e)),
    "start": (_created, lambda e, c: c.start()),
    "start caller": (_caller, lambda e, c: c.start()),
    "pause": (_running, lambda e, c: c.pause()),
    "resume": (_paused, lambda e, c: c.resume()),
    "exec": (
        _running,
        lambda e, c: c.exec(["/bin/sleep", "1000"], env=reality.marking("crash", "exec"), **NULL),
    ),
    "stop": (_running, lambda e, c: c.stop()),
    "destroy": (_running, lambda e, c: c.destroy()),
    "destroy with hooks": (_hooked, lambda e, c: c.destroy()),
    "run": (_none, lambda e, _: e.run("web", spec=_spec(("/bin/true",)), **NULL)),
}


# In a cgroup, which only some users may make.
CGROUP_VERBS: dict[str, Verb] = {
    "create limited": (
        _none,
        lambda e, _: e.create("web", spec=_limited(e), **NULL),
    ),
    "create limited caller": (
        _none,
        lambda e, _: e.create("web", spec=_limited(e), supervision="caller", **NULL),
    ),
    "pause limited": (_limited_running, lambda e, c: c.pause()),
    "destroy limited": (_limited_running, lambda e, c: c.destroy()),
    "destroy limited and paused": (_limited_paused, lambda e, c: c.destroy()),
    "run limited": (
        _none,
        lambda e, _: e.run("web", spec=_limited(e, ("/bin/true",)), **NULL),
    ),
}


async def _do(root: str, verb: str, step: int) -> None:
    prepare, act = (VERBS | CGROUP_VERBS)[verb]
    async with asyncrt.Engine(root) as engine:
        state = await prepare(engine)
        die_before(step)
        await act(engine, state)
        os._exit(0)  # as it stands: what the verb left is for the parent to see


def main() -> None:
    """Read "step verb" lines; answer each with the wait status of the child that did it."""
    root = sys.argv[1]
    for line in sys.stdin:
        step, _, verb = line.strip().partition(" ")
        pid = os.fork()
        if pid == 0:
            asyncio.run(_do(root, verb, int(step)))
        _, status = os.waitpid(pid, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())
