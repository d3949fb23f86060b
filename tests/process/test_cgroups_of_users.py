"""Ordinary users' cgroups: honoured where a part of the tree is theirs, else refused by path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from asyncrt import _cgroups
from asyncrt.platforms.cgroups.machine import discover
from tests.helpers import capabilities
from tests.helpers.capabilities import User
from tests.helpers.cgroups import delegated, unique
from tests.helpers.processes import Interpreter

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups("pids")]

# Reads a path to use; says what the cgroup was, and whether pausing froze it.
LIFE = """
import asyncio, asyncrt, sys
from asyncrt import _cgroups
from tests.helpers import cgroups
from tests.helpers.containers import sleeper

async def main():
    root, limits = sys.argv[1], sys.argv[2] == "limits"
    path = sys.stdin.readline().strip()
    spec = cgroups.limited(sleeper(), path, **({"pids": {"limit": 5}} if limits else {}))
    async with asyncrt.Engine(root) as engine:
        try:
            container = await engine.create("web", spec=spec)
        except asyncrt.SpecUnsupported as error:
            print(",".join(error.fields), list(error.reasons.values())[0], sep="|")
            return
        await container.start()
        where = cgroups.where(container, root)
        await container.pause()
        frozen = _cgroups.is_frozen(where)
        await container.resume()
        made = cgroups.made_for(container, root)
        pids = len(await container.processes())
        await container.destroy()
        print(where, frozen, pids, cgroups.left(made), sep="|")

print("ready")
asyncio.run(main())
"""


@pytest.fixture
def theirs(root: str, ordinary_user: User) -> Iterator[str]:
    """A root directory that is the user's."""
    os.chmod(root, 0o711)
    path = f"{root}/ours"
    os.mkdir(path, 0o700)
    os.chown(path, ordinary_user.uid, ordinary_user.gid)
    yield path
    shutil.rmtree(path)


def _life(theirs: str, user: User, path: str, *, limits: bool, join: str = "") -> list[str]:
    what = "limits" if limits else "none"
    with Interpreter(LIFE, theirs, what, user=user.uid, group=user.gid) as child:
        assert child.line() == "ready"
        if join:
            _cgroups.write(f"{join}/cgroup.procs", str(child.pid))
        child.say(path)
        return child.line().split("|")


UPDATE = """
import asyncio, asyncrt, sys
from asyncrt import _cgroups
from tests.helpers import cgroups
from tests.helpers.containers import sleeper

async def main():
    root, path = sys.argv[1], sys.argv[2]
    spec = cgroups.limited(sleeper(), path, pids={"limit": 5})
    async with asyncrt.Engine(root) as engine:
        container = await engine.create("web", spec=spec)
        try:
            await container.update(pids=7)
            with open(cgroups.where(container, root, "pids") + "/pids.max") as file:
                print(file.read().strip())
            try:
                await container.update({"pids": {"limit": 8}, "cpu": {"shares": 512}})
            except asyncrt.SpecUnsupported as error:
                print(",".join(error.fields), *error.reasons.values())
            else:
                print("-")
            with open(cgroups.where(container, root, "pids") + "/pids.max") as file:
                print(file.read().strip())
        finally:
            await container.destroy()

asyncio.run(main())
"""


def test_limits_that_are_theirs_they_can_change_and_no_others(
    theirs: str, ordinary_user: User
) -> None:
    machine = discover()
    if not {"pids", "freezer", "cpu"} <= machine.v1.keys():
        capabilities.skip_lacking("pids, freezer and cpu of cgroup version 1")
    path = unique()
    tops = [machine.v1[each].top for each in ("pids", "freezer")]
    with (
        delegated(tops, path, ordinary_user),
        Interpreter(
            UPDATE, theirs, f"{path}/web", user=ordinary_user.uid, group=ordinary_user.gid
        ) as child,
    ):
        assert child.line() == "7"
        refused = child.line()
        assert refused.startswith("linux.resources.cpu.shares this user may not make /")
        assert child.line() == "7"


@pytest.mark.parametrize("limits", [True, False], ids=["limits", "a path"])
def test_what_is_not_theirs_is_refused_by_path(
    theirs: str, ordinary_user: User, limits: bool
) -> None:
    path = unique()
    fields, why = _life(theirs, ordinary_user, path, limits=limits)
    assert fields == ("linux.resources.pids.limit," if limits else "") + "linux.cgroupsPath"
    assert why.startswith("this user may not make /")
    assert why.endswith(path)


def test_below_a_cgroup_of_version_1_that_is_theirs_limits_are_honoured(
    theirs: str, ordinary_user: User
) -> None:
    machine = discover()
    if not {"pids", "freezer"} <= machine.v1.keys():
        capabilities.skip_lacking("pids and freezer of cgroup version 1")
    path = unique()
    tops = [machine.v1[each].top for each in ("pids", "freezer")]
    with delegated(tops, path, ordinary_user):
        where, frozen, pids, left = _life(theirs, ordinary_user, f"{path}/web", limits=True)
        assert where == f"{machine.v1['freezer'].top}{path}/web"
        assert (frozen, pids, left) == ("True", "1", "[]")


def test_from_inside_a_part_of_version_2_that_is_theirs_they_make_more(
    theirs: str, ordinary_user: User
) -> None:
    """Beside the cgroup they are in, which as an inner one could hand nothing down."""
    machine = discover()
    if machine.v2 is None:
        capabilities.skip_lacking("cgroup version 2")
    path = unique()
    with delegated([machine.v2.top], path, ordinary_user):
        session = f"{machine.v2.top}{path}/session"
        os.mkdir(session)
        found = _life(theirs, ordinary_user, "web", limits=False, join=session)
        assert found == [f"{machine.v2.top}{path}/web", "True", "1", "[]"]
