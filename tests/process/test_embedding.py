"""The engine in somebody's process: other reapers, other threads, and no fork of what is there."""

from __future__ import annotations

import pytest

from asyncrt import Engine
from tests.helpers.processes import Interpreter, run_python
from tests.helpers.records import names

LIFE = """
import asyncio, signal, sys
import asyncrt

async def life(root):
    async with asyncrt.Engine(root) as engine:
        hooks = {"poststop": [asyncrt.Hook(path="/bin/true")]}
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"], hooks=hooks)
        for id in ("one", "two"):
            container = await engine.create(id, spec=spec, stdout=asyncrt.LOG)
            await container.start()
            process = await container.exec(["/bin/sh", "-c", "exit 7"], stdout=asyncrt.DEVNULL)
            print((await process.wait()).exit_code)
            process.close()
            await container.kill("KILL")
            print((await container.wait()).signal)
            await container.destroy()
        done = await engine.run(
            "job", spec=asyncrt.Spec.command(["/bin/sh", "-c", "exit 3"]), stdout=asyncrt.PIPE
        )
        print(done.exit.exit_code)
"""
LIVED = "7\n9\n7\n9\n3\n"

REAPERS = {
    "that waits for any child": """
import os, threading, time

def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)  # it orders nothing: nobody is there to be waited for

threading.Thread(target=reap, daemon=True).start()
""",
    "that is the kernel": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "in a signal handler": """
import os

def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, reap)
""",
}


@pytest.mark.parametrize("reaper", REAPERS)
def test_hazard_25_a_second_reaper_turns_nothing_into_an_error(root: str, reaper: str) -> None:
    code = f"{LIFE}\n{REAPERS[reaper]}\nasyncio.run(life(sys.argv[1]))"
    done = run_python(code, root, timeout=50)
    assert (done.stdout, done.stderr) == (LIVED, "")
    assert names(root) == []


def test_hazard_30_the_engine_is_never_forked(root: str) -> None:
    """A fork copies the page tables of whatever is loaded, and the locks that other threads hold."""
    code = """
made = []

def audit(event, _):
    if event.startswith(("os.fork", "os.posix_spawn", "subprocess.")):
        made.append(event)

sys.addaudithook(audit)
asyncio.run(life(sys.argv[1]))
print(set(made))
"""
    done = run_python(LIFE + code, root, timeout=50)
    assert (done.stdout, done.stderr) == (LIVED + "{'os.posix_spawn'}\n", "")


async def test_hazard_29_containers_outlive_the_thread_whose_engine_made_them(
    engine: Engine, root: str
) -> None:
    """A signal for the parent's death (PR_SET_PDEATHSIG) would come with the thread's."""
    code = """
import asyncio, sys, threading
import asyncrt

async def make(root):
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.command(["/bin/sleep", "1000"])
        for id in ("web", "db"):
            container = await engine.create(id, spec=spec, stdout=asyncrt.DEVNULL)
            await container.start()

thread = threading.Thread(target=asyncio.run, args=(make(sys.argv[1]),))
thread.start()
thread.join()
print("joined", flush=True)
sys.stdin.readline()
"""
    with Interpreter(code, root) as maker:
        assert await maker.next_line() == "joined"
        assert [view.status for view in await engine.list()] == ["running", "running"]
        for id in ("web", "db"):
            container = await engine.load(id)
            await container.kill("TERM")
            assert (await container.wait()).signal == 15
            await container.destroy()
