"""exec with groups, capabilities, no_new_privs, a process object or a cgroup, on each platform."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import PIPE, Engine
from asyncrt.platforms.linux import machine
from tests.helpers import cgroups, sandboxes
from tests.helpers.containers import SECONDS, destroyed, record_of, rest, sleeper, started
from tests.helpers.platforms import LINUX, Making, making, on_each

__all__ = ["making"]  # a fixture

STATUS = "grep -E '^(Groups|Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs):' /proc/self/status"
KILL, CHOWN, NET_ADMIN = 1 << 5, 1 << 0, 1 << 12
SH = "/bin/sh"
_HAS = {"apparmor_profile": machine.has_apparmor, "selinux_label": machine.has_selinux}


async def say(container: asyncrt.Container, *args: str, **options: Any) -> str:
    """What an exec'd program prints; it must succeed."""
    process = await container.exec(args or None, stdout=PIPE, **options)
    try:
        found = await rest(process.stdout)
        assert (await process.wait()).exit_code == 0
        return found
    finally:
        process.close()


async def status(container: asyncrt.Container, **options: Any) -> dict[str, Any]:
    """Groups, capability sets and no_new_privs of a process exec'd with these options."""
    lines = (await say(container, SH, "-c", STATUS, **options)).splitlines()
    found = {name: value.strip() for name, _, value in (each.partition(":") for each in lines)}
    return {
        name: sorted(map(int, value.split())) if name == "Groups" else int(value, 16)
        for name, value in found.items()
    }


def capable(*, bounding: int) -> dict[str, list[str]]:
    """Of a config: root's usual three sets."""
    named = {CHOWN: "CAP_CHOWN", KILL: "CAP_KILL", NET_ADMIN: "CAP_NET_ADMIN"}
    names = [name for bit, name in named.items() if bounding & bit]
    return dict.fromkeys(("bounding", "effective", "permitted"), names)


@pytest.mark.needs_root
@on_each
async def test_groups_beside_those_it_has(engine: Engine, making: Making) -> None:
    user = {"uid": 0, "gid": 0, "additionalGids": [7]}
    spec = making.spec(["/bin/sleep", "1000"], user=user)
    async with destroyed(await started(engine, "web", spec)) as web:
        assert {7, 11, 12} <= set((await status(web, additional_gids=[11, 12]))["Groups"])
        assert 7 in (await status(web))["Groups"]
        found = await status(web, user="5:6", additional_gids=[11])
        assert set(found["Groups"]) - {6} == {11}


@pytest.mark.needs_root
async def test_groups_of_a_process_that_has_no_user_of_its_own(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as web:
        assert await say(web, "/usr/bin/id", "-u", additional_gids=[4321]) == f"{os.geteuid()}\n"
        assert 4321 in (await status(web, additional_gids=[4321]))["Groups"]


@on_each
async def test_no_new_privileges_when_asked_for_and_whenever_the_container_has_none(
    engine: Engine, making: Making
) -> None:
    """HAZARDS 34."""
    spec = making.spec(["/bin/sleep", "1000"])
    async with destroyed(await started(engine, "web", spec)) as web:
        assert (await status(web))["NoNewPrivs"] == 0
        assert (await status(web, no_new_privs=True))["NoNewPrivs"] == 1
    spec = making.spec(["/bin/sleep", "1000"], noNewPrivileges=True)
    async with destroyed(await started(engine, "web", spec)) as web:
        assert (await status(web))["NoNewPrivs"] == 1
        found = await say(web, process={"cwd": "/", "args": [SH, "-c", STATUS]})
        assert "NoNewPrivs:\t1" in found.splitlines()


@pytest.mark.needs_root
@pytest.mark.needs_program("busybox")
async def test_capabilities_beside_those_it_has(engine: Engine, rootfs: str) -> None:
    """HAZARDS 34 and 43: those and no other, and none inheritable that nobody asked for."""
    made = sandboxes.config(rootfs, ["/bin/sleep", "1000"])
    made["process"]["capabilities"] = capable(bounding=KILL)
    async with destroyed(await started(engine, "box", sandboxes.spec(made))) as box:
        found = await status(box)
        assert {found[f"Cap{each}"] for each in ("Eff", "Prm", "Bnd")} == {KILL}
        found = await status(box, capabilities=["CAP_NET_ADMIN", "CAP_CHOWN"])
        assert {found[f"Cap{each}"] for each in ("Eff", "Prm", "Bnd")} == {KILL | NET_ADMIN | CHOWN}
        assert (found["CapInh"], found["CapAmb"]) == (0, 0)
        found = await status(box, capabilities=["CAP_NET_ADMIN"], user="1000:1000")
        assert found["CapBnd"] == KILL | NET_ADMIN
        assert {found[f"Cap{each}"] for each in ("Eff", "Prm", "Inh", "Amb")} == {NET_ADMIN}
        found = await status(box, user="1000:1000")
        assert {found[f"Cap{each}"] for each in ("Eff", "Prm", "Inh", "Amb")} == {0}


async def test_a_plain_process_can_be_given_no_capabilities(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as web:
        with pytest.raises(asyncrt.SpecUnsupported) as caught:
            await web.exec(["/bin/true"], capabilities=["CAP_CHOWN"])
        assert caught.value.fields == ("process.capabilities",)


@on_each
async def test_labels_are_put_on_or_refused_where_there_are_none(
    engine: Engine, making: Making
) -> None:
    async with destroyed(await started(engine, "web", making.spec(["/bin/sleep", "1000"]))) as web:
        for name, at in (
            ("apparmor_profile", "apparmorProfile"),
            ("selinux_label", "selinuxLabel"),
        ):
            if making.platform == LINUX and _HAS[name]():
                continue
            with pytest.raises(asyncrt.SpecUnsupported) as caught:
                await web.exec(["/bin/true"], **{name: "some"})  # type: ignore[arg-type]  # either
            assert caught.value.fields == (f"process.{at}",)


@pytest.mark.needs_root
@on_each
async def test_a_process_object_says_all_about_it(
    engine: Engine, making: Making, tmp_path: Path
) -> None:
    script = (
        'echo "$A $HOME"; pwd; umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; '
        f"id -u; id -g; {STATUS}"
    )
    given = {
        "args": [SH, "-c", script],
        "cwd": "/tmp",
        "env": ["A=1", "A=2", "PATH=/usr/bin:/bin"],
        "user": {"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        "noNewPrivileges": True,
        "oomScoreAdj": 123,
    }
    if making.platform == LINUX:
        given["capabilities"] = {"bounding": ["CAP_KILL"]}
    path = tmp_path / "process.json"
    path.write_text(json.dumps(given))
    spec = making.spec(["/bin/sleep", "1000"], oomScoreAdj=7)
    async with destroyed(await started(engine, "web", spec)) as web:
        for process in (given, path, str(path)):
            found = (await say(web, process=process)).splitlines()
            assert found[0].startswith("2 /")
            assert found[1:8] == ["/tmp", "0027", "100", "200", "123", "5", "6"]
            assert "NoNewPrivs:\t1" in found
            if making.platform == LINUX:
                assert f"CapBnd:\t{KILL:016x}" in found


@on_each
async def test_what_a_process_object_leaves_out_is_the_containers(
    engine: Engine, making: Making
) -> None:
    """An object without privileges in it must not have more of them than the container."""
    spec = making.spec(
        ["/bin/sleep", "1000"],
        env=["A=of the container", "PATH=/usr/bin:/bin"],
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
        oomScoreAdj=11,
    )
    async with destroyed(await started(engine, "web", spec)) as web:
        script = 'echo "$A"; ulimit -n; cat /proc/self/oom_score_adj'
        found = await say(web, process={"cwd": "/", "args": [SH, "-c", script]})
        assert found.splitlines() == ["of the container", "99", "11"]


@on_each
async def test_a_process_object_may_ask_for_a_terminal_of_its_size(
    engine: Engine, making: Making
) -> None:
    given = {
        "cwd": "/",
        "args": [SH, "-c", "stty size || busybox stty size"],
        "terminal": True,
        "consoleSize": {"height": 33, "width": 44},
    }
    async with destroyed(await started(engine, "web", making.spec(["/bin/sleep", "1000"]))) as web:
        async with await web.exec(process=given) as process:
            assert process.terminal is not None
            assert await process.terminal.read() == b"33 44\r\n"
        process = await web.exec(process={**given, "args": ["/bin/true"]}, terminal=False)
        assert process.terminal is None
        await process.wait()


@on_each
async def test_what_cannot_be_honoured_or_is_wrong_is_named_and_nothing_runs(
    engine: Engine, making: Making, tmp_path: Path
) -> None:
    path = tmp_path / "process.json"
    path.write_text('{"cwd": "/", "args": ["true"], "user": {"uid": -1, "gid": 0}}')
    least = {"cwd": "/", "args": ["true"]}
    async with destroyed(await started(engine, "web", making.spec(["/bin/sleep", "1000"]))) as web:
        with pytest.raises(asyncrt.SpecInvalid) as wrong:
            await web.exec(process=path)
        assert (wrong.value.json_path, wrong.value.path) == ("process.user.uid", str(path))
        with pytest.raises(asyncrt.SpecInvalid, match=r"process\.args"):
            await web.exec(process={"cwd": "/"})
        with pytest.raises(asyncrt.SpecUnsupported) as refused:
            await web.exec(process={**least, "scheduler": {"policy": "SCHED_ISO"}})
        assert refused.value.fields[0].startswith("process.scheduler")
        with pytest.raises(asyncrt.StartFailed) as failed:
            await web.exec(process={**least, "cwd": "/nowhere"})
        assert (failed.value.what, failed.value.path) == ("process.cwd", "/nowhere")
        assert len(await web.processes()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"A": "1"}},
        {"cwd": "/"},
        {"user": 0},
        {"additional_gids": [0]},
        {"capabilities": ["CAP_KILL"]},
        {"no_new_privs": True},
        {"apparmor_profile": "unconfined"},
        {"selinux_label": "label"},
        {"args": ["true"]},
    ],
    ids=str,
)
async def test_a_process_object_and_options_exclude_each_other(
    engine: Engine, options: dict[str, Any]
) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as web:
        with pytest.raises(asyncrt.SpecInvalid, match="process"):
            await web.exec(process={"cwd": "/", "args": ["true"]}, **options)
        with pytest.raises(asyncrt.SpecInvalid, match="either"):
            await web.exec(**{each: value for each, value in options.items() if each != "args"})


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("pids")
@on_each
async def test_a_cgroup_below_the_containers_is_joined(
    engine: Engine, making: Making, root: str
) -> None:
    made = making.config(["/bin/sleep", "1000"])
    made.setdefault("linux", {})["cgroupsPath"] = cgroups.unique()
    async with destroyed(await started(engine, "web", sandboxes.spec(made))) as web:
        places = [each.path for each in record_of(web, root).cgroup]
        for each in places:
            os.mkdir(f"{each}/part")
        for named in ("part", "/part", "./part/"):
            process = await web.exec(["/bin/sleep", "1000"], cgroup=named)
            for each in places:
                assert _pids(f"{each}/part") == [process.pid]
                assert process.pid not in _pids(each)
            # It is of the container like any other: listed, paused, killed and cleared away with it.
            assert process.pid in {each.pid for each in await web.processes()}
            await process.kill()
            await process.wait()
            process.close()
        process = await web.exec(["/bin/sleep", "1000"], cgroup="part")
        assert process.pid in _pids(f"{places[0]}/part")
        with pytest.raises(asyncrt.StartFailed) as caught:
            await web.exec(["/bin/true"], cgroup="none")
        assert (caught.value.path, caught.value.errno) == (f"{places[0]}/none", errno.ENOENT)
        for bad in ("..", "part/../..", "/../web", "cpu:part", "a\0b", 5, "pids,cpu:/part"):
            with pytest.raises(asyncrt.SpecInvalid, match="no path of a cgroup"):
                await web.exec(["/bin/true"], cgroup=bad)  # type: ignore[arg-type]  # one is no text
        await web.kill("KILL", all=True)
        assert (await process.wait()).signal == 9
        process.close()
    assert [each for each in places if os.path.lexists(each)] == []


def _pids(cgroup: str) -> list[int]:
    with open(f"{cgroup}/cgroup.procs", encoding="ascii") as procs:
        return [int(each) for each in procs.read().split()]


async def test_a_container_without_a_cgroup_has_none_below_it(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as web:
        with pytest.raises(asyncrt.SpecInvalid, match="'web' has no cgroup"):
            await web.exec(["/bin/true"], cgroup="part", timeout=SECONDS)
