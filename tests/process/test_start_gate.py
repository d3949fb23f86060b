"""The gate: a program runs when somebody says go, and only then; why it can't run is told."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status, _paths
from asyncrt.launch import gate
from asyncrt.sandbox import open_gate, unix
from tests.helpers.containers import (
    Fifo,
    destroyed,
    directory_of,
    gone,
    in_state,
    init_of,
    line,
    record_of,
    rest,
    shell,
    sleeper,
    started,
    supervisor_of,
)
from tests.helpers.processes import until
from tests.helpers.records import names


def executable(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


PROGRAMS = {
    "missing": (errno.ENOENT, "program"),
    "missing below a file": (errno.ENOENT, "program"),
    "not executable": (errno.EACCES, "program"),
    "directory": (errno.EISDIR, "program"),
    "wrong interpreter": (errno.ENOENT, "interpreter of "),
    "interpreter not executable": (errno.EACCES, "interpreter of "),
    "no format the kernel knows": (errno.ENOEXEC, "program"),
    "empty": (errno.ENOEXEC, "program"),
    "not in PATH": (errno.ENOENT, "program"),
}


def broken_program(case: str, directory: Path) -> str:
    path = directory / "program"
    match case:
        case "missing":
            return str(path)
        case "missing below a file":
            return executable(path, b"#!/bin/sh\n") + "/program"
        case "not executable":
            return executable(path, b"#!/bin/sh\n", 0o644)
        case "directory":
            path.mkdir()
            return str(path)
        case "wrong interpreter":
            return executable(path, b"#!/no/such/interpreter\n")
        case "interpreter not executable":
            return executable(path, b"#!/etc/passwd\n")
        case "no format the kernel knows":
            return executable(path, b"\x00\x01\x02 no program\n")
        case "empty":
            return executable(path, b"")
        case _:
            return "no-such-program-in-path"


@pytest.mark.parametrize("case", PROGRAMS)
async def test_a_program_that_cannot_be_executed_makes_start_fail_with_its_own_error(
    case: str, engine: Engine, tmp_path: Path
) -> None:
    program = broken_program(case, tmp_path)
    container = await engine.create("web", spec=asyncrt.Spec.command([program]))
    assert (await container.view()).status is Status.CREATED
    with pytest.raises(asyncrt.StartFailed) as caught:
        await container.start()
    number, what = PROGRAMS[case]
    assert caught.value.errno == number
    assert caught.value.what.startswith(what)
    assert program in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert "\n" not in str(caught.value)
    view = await container.view()
    assert view.status is Status.STOPPED
    result = await container.wait()
    assert result == view.exit
    assert (result.exit_code, result.signal, result.reason) == (None, None, "start failed")
    assert result.started_at is None
    with pytest.raises(asyncrt.InvalidTransition):
        await container.start()
    await container.destroy()


async def test_the_program_is_found_by_path_relative_absolute_and_through_a_symlink(
    engine: Engine, tmp_path: Path
) -> None:
    executable(tmp_path / "program", b'#!/bin/sh\necho "$0 ran in $PWD"\n')
    (tmp_path / "link").symlink_to("program")
    env = {"PATH": f"/nonexistent:{tmp_path}"}
    for name in ("program", "./program", f"{tmp_path}/program", "link", "./link"):
        spec = asyncrt.Spec.command([name], env=env, cwd=tmp_path)
        done = await engine.run("web", spec=spec, stdout=asyncrt.PIPE)
        assert done.exit.exit_code == 0, name
        assert (done.stdout or b"").decode().endswith(f"ran in {tmp_path}\n")


async def test_a_forbidden_candidate_in_path_lets_the_next_one_run(
    engine: Engine, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    executable(tmp_path / "one" / "program", b"#!/bin/sh\nexit 1\n", 0o644)
    executable(tmp_path / "two" / "program", b"#!/bin/sh\nexit 2\n")
    env = {"PATH": f"{tmp_path}/one:{tmp_path}/two"}
    done = await engine.run("web", spec=asyncrt.Spec.command(["program"], env=env))
    assert done.exit.exit_code == 2


@pytest.mark.parametrize("said", [b"", b"go", b"go\ngo\n", b"stop\n", b"\0" * 70000, b"GO\n"])
async def test_a_client_that_does_not_say_go_starts_nothing(engine: Engine, said: bytes) -> None:
    async with destroyed(await engine.create("web", spec=sleeper())) as container:
        sock = unix.connect(directory_of(container, engine.root), _paths.GATE)
        with sock:
            sock.setblocking(True)
            sock.settimeout(10)
            try:
                sock.sendall(said)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(100) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass  # it hung up before all was said
        assert (await container.view()).status is Status.CREATED
        await container.start()
        assert (await container.view()).status is Status.RUNNING


async def test_any_number_of_silent_clients_at_the_gate_does_not_keep_a_start_out(
    engine: Engine,
) -> None:
    async with destroyed(await engine.create("web", spec=sleeper())) as container:
        directory = directory_of(container, engine.root)
        silent: list[socket.socket] = []
        try:
            while len(silent) < 64:
                try:
                    silent.append(unix.connect(directory, _paths.GATE))
                except BlockingIOError:  # init hasn't taken the last ones off the queue yet
                    await asyncio.sleep(0)
            await container.start(timeout=10)
            assert (await container.view()).status is Status.RUNNING
        finally:
            for each in silent:
                each.close()


async def test_connecting_and_closing_at_the_gate_does_no_harm(engine: Engine) -> None:
    async with destroyed(await engine.create("web", spec=sleeper())) as container:
        for _ in range(100):
            try:
                unix.connect(directory_of(container, engine.root), _paths.GATE).close()
            except BlockingIOError:
                await asyncio.sleep(0)
        assert (await container.view()).status is Status.CREATED
        await container.start()


async def test_the_program_does_not_run_before_start(engine: Engine, tmp_path: Path) -> None:
    with Fifo(tmp_path / "ran") as ran:
        container = await engine.create("web", spec=shell('echo ran >"$1"', ran.path))
        await (await container.exec(["/bin/true"])).wait()
        assert ran.lines() == []
        await container.start()
        assert await ran.line() == "ran"
        await container.destroy()


async def test_created_with_a_dead_supervisor_is_stopped(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    init, supervisor = init_of(container, engine.root), supervisor_of(container, engine.root)
    os.kill(supervisor, signal.SIGKILL)
    await gone(supervisor)
    await gone(init)
    assert (await container.view()).status is Status.STOPPED
    result = await container.wait()
    assert (result.exit_code, result.signal, result.reason) == (None, None, "unknown")
    with pytest.raises(asyncrt.InvalidTransition):
        await container.start()
    await container.delete()


async def test_created_whose_init_is_killed_is_stopped_and_says_so(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    os.kill(init_of(container, engine.root), signal.SIGKILL)
    result = await container.wait()
    assert (result.exit_code, result.signal) == (None, 9)
    assert result.started_at is None
    with pytest.raises(asyncrt.InvalidTransition):
        await container.start()
    await container.destroy()


async def test_a_start_killed_between_go_and_save_is_told_as_running(engine: Engine) -> None:
    container = await engine.create("web", spec=sleeper())
    assert await open_gate(directory_of(container, engine.root)) is None
    await until(
        lambda: Path(f"/proc/{init_of(container, engine.root)}/comm").read_text() == "sleep\n",
        "the program runs",
    )
    assert record_of(container, engine.root).status is Status.CREATED
    assert (await container.view()).status is Status.RUNNING
    with pytest.raises(asyncrt.InvalidTransition) as caught:
        await container.start()
    assert caught.value.status == "running"
    assert record_of(container, engine.root).status is Status.RUNNING
    await container.pause()
    await container.resume()
    assert (await container.view()).status is Status.RUNNING
    await container.kill("TERM")
    result = await container.wait()
    assert result.signal == 15
    assert result.started_at is not None
    await container.destroy()


async def test_a_go_whose_sender_went_away_at_once_still_starts(engine: Engine) -> None:
    container = await engine.create(
        "web", spec=shell("echo here; exec sleep 1000"), stdout=asyncrt.PIPE
    )
    with unix.connect(directory_of(container, engine.root), _paths.GATE) as sock:
        sock.send(gate.GO)
    assert await line(container.stdout) == "here"
    assert (await container.view()).status is Status.RUNNING
    await container.destroy()


async def test_two_starts_at_once_start_once(engine: Engine) -> None:
    """HAZARDS 11."""
    container = await engine.create("web", spec=shell("echo x"), stdout=asyncrt.PIPE)
    other = await engine.load("web")
    done = await asyncio.gather(container.start(), other.start(), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["InvalidTransition", "NoneType"]
    await container.wait()
    assert await rest(container.stdout) == "x\n"
    await container.destroy()


async def test_a_start_that_gets_no_answer_says_unresponsive_and_destroy_still_works(
    engine: Engine,
) -> None:
    container = await engine.create("web", spec=sleeper())
    await (await container.exec(["/bin/true"])).wait()  # init has heard that it is recorded
    init = init_of(container, engine.root)
    os.kill(init, signal.SIGSTOP)
    await in_state(init, "T")
    with pytest.raises(asyncrt.SandboxUnresponsive):
        await container.start(timeout=0.1)
    await container.destroy()
    assert names(engine.root) == []


async def test_what_a_container_inherits_is_three_descriptors_and_default_signals(
    engine: Engine,
) -> None:
    """HAZARDS 41."""
    extra = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(extra, True)
    script = "ls /proc/self/fd; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; umask; pwd"
    try:
        spec = asyncrt.Spec.command(["/bin/sh", "-c", script], cwd="/tmp")
        done = await engine.run("web", spec=spec, stdout=asyncrt.PIPE)
    finally:
        os.close(extra)
    told = (done.stdout or b"").decode().split()
    assert told[:4] == ["0", "1", "2", "3"]  # 3 is ls's own, of the directory it lists
    blocked, ignored = told[5], told[7]
    assert told[4] == "SigBlk:"
    assert int(blocked, 16) == 0
    # glibc's posix_spawn ignores the two signals it keeps for itself (32, 33).
    assert int(ignored, 16) & ~0x180000000 == 0
    assert told[-1] == "/tmp"


async def test_env_is_only_what_was_given_the_last_duplicate_wins_and_home_is_set(
    engine: Engine,
) -> None:
    config = (
        b'{"ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["/usr/bin/env"],'
        b' "env": ["A=1", "B=2", "A=3", "E="]}}'
    )
    os.environ["ASYNCRT_TEST_SECRET"] = "x"
    try:
        done = await engine.run("web", spec=asyncrt.Spec.decode(config), stdout=asyncrt.PIPE)
    finally:
        del os.environ["ASYNCRT_TEST_SECRET"]
    found = (done.stdout or b"").decode().splitlines()
    assert found[:3] == ["A=3", "B=2", "E="]
    assert [each.partition("=")[0] for each in found[3:]] == ["HOME"]


@pytest.mark.parametrize("limit", [0, 3, 10])
async def test_a_limit_of_open_files_is_the_programs_and_not_ours(
    engine: Engine, limit: int
) -> None:
    spec = shell("ulimit -n", rlimits={"NOFILE": (limit, limit)})
    done = await engine.run("web", spec=spec, stdout=asyncrt.PIPE)
    assert done.exit.reason == "exit"  # it was executed: what its loader does is its own business
    assert done.stdout == (b"10\n" if limit == 10 else b"")


async def test_rlimits_umask_score_and_no_new_privs_reach_init_and_exec(engine: Engine) -> None:
    script = (
        "ulimit -Sn; ulimit -Hn; umask; cat /proc/self/oom_score_adj; "
        "grep NoNewPrivs /proc/self/status"
    )
    told = ["50", "60", "0037", "500", "NoNewPrivs:", "1"]
    spec = shell(
        script + "; exec sleep 1000",
        umask=0o37,
        rlimits={"NOFILE": (50, 60)},
        no_new_privs=True,
        oom_score_adj=500,
    )
    async with destroyed(await started(engine, "web", spec, stdout=asyncrt.PIPE)) as container:
        found = " ".join([await line(container.stdout) for _ in range(5)]).split()
        assert found == told
        process = await container.exec(["/bin/sh", "-c", script], stdout=asyncrt.PIPE)
        assert (await rest(process.stdout)).split() == told
        await process.wait()
        process.close()
