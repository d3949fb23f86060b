"""A program that becomes another user's, as under sudo: who may not signal it is told so, by an error of ours."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.helpers.capabilities import User, skip_lacking
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import Interpreter, kill_hard
from tests.helpers.programs import compile_static

pytestmark = pytest.mark.needs_root

BECOME_ROOT = """
#include <grp.h>
#include <unistd.h>
int main(void) {
    if (setgroups(0, 0) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) return 1;
    write(1, "root\\n", 5);
    for (;;) pause();
}
"""

CODE = """
import asyncio, sys
import asyncrt

NULL = asyncrt.DEVNULL

async def told(name, verb):
    try:
        await verb
        print(name, "done", flush=True)
    except asyncrt.AsyncrtError as error:
        print(name, type(error).__name__, flush=True)

async def main():
    async with asyncrt.Engine(sys.argv[1]) as engine:
        spec = asyncrt.Spec.command([sys.argv[2]])
        web = await engine.create("web", spec=spec, stdout=asyncrt.PIPE, stderr=NULL)
        await web.start()
        await web.stdout.readline()
        pid = (await web.view()).pid
        beside = await web.exec(["/bin/sleep", "1000"], stdout=NULL, stderr=NULL)
        other = await web.exec([sys.argv[2]], stdout=asyncrt.PIPE, stderr=NULL)
        await other.stdout.readline()
        print("pids", pid, other.pid, flush=True)
        await told("init", web.kill("TERM"))
        await told("pid", web.kill("TERM", pid=pid))
        await told("group", web.kill("TERM", pgid=pid))
        await told("process", other.kill("TERM"))
        await told("all", web.kill("TERM", all=True))
        print("beside", (await beside.wait()).signal, flush=True)
        await told("stop", web.stop(0.1, timeout=0.2))
        await told("destroy", web.destroy(timeout=0.2))
        print("status", (await web.view()).status, flush=True)
        sys.stdin.readline()
        beside.close()
        other.close()
        await told("after", web.destroy())

asyncio.run(main())
"""


@pytest.fixture
def become_root(open_directory: Path) -> str:
    """A program that does, whoever executes it."""
    path = str(open_directory / "become-root")
    if not compile_static(BECOME_ROOT, path):
        skip_lacking("gcc")
    os.chmod(path, 0o4755)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        skip_lacking("a temporary directory where programs may be setuid")
    return path


def test_each_verb_says_whose_it_is_and_all_that_may_be_signalled_is(
    ordinary_user: User, become_root: str, open_directory: Path, leak_check: LeakCheck
) -> None:
    root = str(open_directory / "root")
    os.mkdir(root, 0o700)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    leak_check.watch_root(root)
    with Interpreter(
        CODE, root, become_root, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid
    ) as user:
        _, *pids = user.line().split()
        try:
            for name in ("init", "pid", "group", "process", "all"):
                assert user.line() == f"{name} SignalRefused"
            assert user.line() == f"beside {signal.SIGTERM.value}"
            assert user.line() == "stop SignalRefused"
            assert user.line() == "destroy DestroyFailed"
            assert user.line() == "status running"
        finally:
            for pid in pids:
                kill_hard(int(pid))
        user.say("go on")
        assert user.line() == "after done"
        assert user.wait() == 0
