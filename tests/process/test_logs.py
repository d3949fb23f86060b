"""LOG: what a workload wrote is there, whole, whoever reads it when, and whoever was killed."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import asyncrt
from asyncrt import LOG, PIPE, Engine, Log
from tests.helpers import capabilities
from tests.helpers.containers import (
    destroyed,
    line,
    shell,
    started,
    supervisor_of,
)
from tests.helpers.logs import joined, lines
from tests.helpers.processes import until

RAW = Log(timestamps=False, max_bytes=None)


async def test_a_short_runs_last_line_is_never_lost(engine: Engine, full: bool) -> None:
    for number in range(200 if full else 30):
        container = await engine.create("web", spec=shell(f"printf {number}"), stdout=LOG)
        await container.start()
        await container.wait()
        assert joined(await lines(container)) == b"%d" % number
        await container.destroy()


async def test_a_follower_gets_all_and_ends_with_the_container(engine: Engine) -> None:
    script = "echo one; read x; echo two; read x; echo bad >&2; exit 3"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG, stderr=LOG)
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(20):
        found = []
        async for each in container.logs(follow=True):
            found.append(each)
            container.stdin.write(b"go\n")
        assert [(each.stream, each.text) for each in found] == [
            ("stdout", "one"),
            ("stdout", "two"),
            ("stderr", "bad"),
        ]
        assert (await container.wait()).exit_code == 3
        assert await lines(container) == found


async def test_a_follower_of_a_container_that_is_destroyed_ends(engine: Engine) -> None:
    container = await started(engine, "web", shell("echo here; sleep 1000"), stdout=LOG)
    found = []
    async with asyncio.timeout(20):
        async for each in container.logs(follow=True):
            found.append(each.text)
            await container.destroy()
    assert found == ["here"]


async def test_a_prompt_without_an_end_is_shown_to_a_follower(engine: Engine) -> None:
    container = await started(
        engine, "web", shell("printf 'name? '; read x; echo $x"), stdin=PIPE, stdout=LOG
    )
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(20):
        found = []
        async for each in container.logs(follow=True):
            found.append(each.data)
            if each.data == b"name? ":
                container.stdin.write(b"me\n")
        assert found == [b"name? ", b"me\n"]


@pytest.mark.parametrize("log", [LOG, RAW], ids=["stamped", "raw"])
async def test_binary_output_long_lines_and_no_last_newline_come_back_byte_for_byte(
    engine: Engine, log: Log
) -> None:
    script = (
        "head -c 3000000 /dev/urandom >&2; echo; printf '\\0\\r\\033[0m\\377\\n';"
        "head -c 1000000 /dev/zero; echo; head -c 3000000 /dev/zero; printf end"
    )
    spec = shell(f"({script}) 2>&1 | tee $1", f"{engine.root}/copy")
    container = await started(engine, "web", spec, stdout=log)
    async with destroyed(container):
        live = await lines(container, follow=True)
        with open(f"{engine.root}/copy", "rb") as file:
            whole = file.read()
        os.unlink(f"{engine.root}/copy")
        assert joined(live) == whole
        later = await lines(container)
        assert joined(later) == whole
        assert max(len(each.data) for each in later) < 2 << 20
        assert b"\0" * 1_000_000 + b"\n" in [each.data for each in later]  # in one piece


async def test_rotated_logs_keep_the_newest_and_are_read_in_order(engine: Engine) -> None:
    log = Log(max_bytes=20_000, files=3)
    container = await started(engine, "web", shell("seq 1 10000"), stdout=log)
    async with destroyed(container):
        await container.wait()
        found = [int(each.text) for each in await lines(container)]
        assert found == list(range(found[0], 10001))
        assert 1 < found[0] < 10000
        sizes = [
            each.stat().st_size
            for each in os.scandir(f"{engine.root}/web.d/logs")
            if each.name.endswith(".log")
        ]
        assert len(sizes) == 3
        assert all(each <= 20_000 for each in sizes)


async def test_a_reader_goes_on_through_rotation_and_says_what_it_missed(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(max_bytes=3000, files=2)
    script = "echo first; read x; seq 1 1000; read x; echo last"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=log, stderr=PIPE)
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(20):
        reading = container.logs(follow=True)
        assert (await anext(reading)).text == "first"
        container.stdin.write(b"go\n")
        names = f"{engine.root}/web.d/logs"
        await until(lambda: "stdout.1.log" not in os.listdir(names), "the first file is gone")
        container.stdin.write(b"go\n")
        found = [each.text async for each in reading]
        assert found[-1] == "last"
    assert any("rotated away" in each.message for each in caplog.records)


async def test_a_log_truncated_under_its_reader_is_read_on(engine: Engine) -> None:
    script = "seq 1 1000; read x; echo after"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=RAW)
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(20):
        found = []
        async for each in container.logs(follow=True):
            found.append(each.text)
            if each.text == "1000":
                os.truncate(f"{engine.root}/web.d/logs/stdout.1.log", 0)
                container.stdin.write(b"go\n")
        assert found[-1] == "after"
        assert len(found) == 1001
        assert [each.text for each in await lines(container)] == ["after"]


@pytest.mark.parametrize(
    "torn", ["", "2026-01", "{} stdout F ", "{} stdout F tw", "{} stdout P tw"]
)
async def test_a_line_that_a_killed_writer_left_torn_is_one_with_its_rest(
    engine: Engine, root: str, torn: str
) -> None:
    stamp = "2026-01-31T12:00:00.000000Z"
    begun = torn.format(stamp)
    rest = "o" if torn.endswith("tw") else "two"
    container = await started(engine, "web", shell("true"), stdout=LOG)
    async with destroyed(container):
        await container.wait()
        with open(f"{root}/web.d/logs/stdout.1.log", "a") as file:
            file.write(f"{stamp} stdout F one\n{begun}")
        with open(f"{root}/web.d/logs/stdout.2.log", "w") as file:
            file.write(f"{stamp} stdout F {rest}\n{stamp} stdout F three\n")
        whole = ["one", "two", "three"]
        assert [each.text for each in await lines(container)] == whole
        for tail in range(4):
            found = [each.text for each in await lines(container, tail=tail)]
            assert found == whole[3 - tail :]


@pytest.mark.parametrize(
    "log", [LOG, RAW, Log(max_bytes=700, files=50)], ids=["one", "raw", "many"]
)
async def test_tail_is_exactly_so_many_lines(engine: Engine, log: Log) -> None:
    container = await started(engine, "web", shell("seq 1 200; printf end"), stdout=log)
    async with destroyed(container):
        await container.wait()
        whole = [each.text for each in await lines(container)]
        assert len(whole) == 201
        for number in (1, 2, 17, 200, 201, 1000):
            assert [each.text for each in await lines(container, tail=number)] == whole[-number:]


async def test_tail_of_both_streams_is_of_both_together(engine: Engine) -> None:
    script = "for i in 1 2 3 4 5; do echo $i; echo $i >&2; done; echo end"
    container = await started(engine, "web", shell(script), stdout=LOG, stderr=LOG)
    async with destroyed(container):
        await container.wait()
        whole = await lines(container)
        assert len(whole) == 11
        assert await lines(container, tail=4) == whole[-4:]
        assert await lines(container, tail=0) == []
        assert {each.stream for each in await lines(container, stream="stderr")} == {"stderr"}


async def test_since_is_a_moment_or_so_long_ago(engine: Engine) -> None:
    log = Log(max_bytes=2000, files=100)
    container = await started(
        engine, "web", shell("seq 1 500; read x; seq 501 600"), stdin=PIPE, stdout=log
    )
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(20):
        async with aclosing(container.logs(follow=True)) as reading:
            while (await anext(reading)).text != "500":
                pass
        moment = datetime.now(UTC)
        container.stdin.write(b"go\n")
        await container.wait()
        found = [int(each.text) for each in await lines(container, since=moment)]
        assert found == list(range(501, 601))
        assert len(await lines(container, since=timedelta(hours=1))) == 600
        assert len(await lines(container, since=timedelta.max)) == 600  # before there were dates
        assert await lines(container, since=datetime.now(UTC)) == []
        assert await lines(container, since=timedelta.min) == []


@pytest.mark.parametrize(
    "how",
    [
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - wrong on purpose
        {"since": 5},
        {"tail": -1},
        {"tail": "x"},
        {"stream": "stdin"},
    ],
    ids=str,
)
async def test_a_question_that_makes_no_sense_is_refused(
    engine: Engine, how: dict[str, Any]
) -> None:
    container = await started(engine, "web", shell("echo"), stdout=LOG)
    async with destroyed(container):
        with pytest.raises(asyncrt.SpecInvalid):
            await lines(container, **how)


async def test_no_log_no_times_no_supervisor_are_one_clear_line_each(engine: Engine) -> None:
    async with engine.running("none", spec=shell("sleep 1000"), stderr=LOG) as container:
        for how in ({"stream": "stdout"}, {"stream": "stdout", "follow": True}):
            with pytest.raises(asyncrt.NoOutput, match="its stdout doesn't go to a log"):
                await lines(container, **how)
        with pytest.raises(asyncrt.SpecInvalid, match="no log for it"):
            await container.exec(["/bin/true"], stdout=LOG, stderr=LOG)
    async with engine.running("raw", spec=shell("sleep 1000"), stdout=RAW) as container:
        with pytest.raises(asyncrt.SpecInvalid, match="timestamps"):
            await lines(container, since=timedelta(1))
    with pytest.raises(asyncrt.SpecInvalid, match="supervision"):
        await engine.create("caller", spec=shell(""), stdout=LOG, supervision="caller")
    with pytest.raises(asyncrt.SpecInvalid, match="stdin"):
        await engine.create("in", spec=shell(""), stdin=LOG)
    for bad in ({"max_bytes": 0}, {"files": 0}, {"files": True}):
        with pytest.raises(asyncrt.SpecInvalid):
            Log(**bad)


async def test_what_lies_in_the_place_of_a_log_is_told_by_its_path(
    engine: Engine, root: str
) -> None:
    container = await started(engine, "web", shell("echo one"), stdout=LOG)
    async with destroyed(container):
        await container.wait()
        logs = f"{root}/web.d/logs"
        file = f"{logs}/stdout.1.log"
        os.unlink(file)
        assert await lines(container) == []
        os.mkdir(file)
        for how in ({}, {"tail": 1}, {"follow": True}, {"since": timedelta(1)}):
            with pytest.raises(asyncrt.StorageFailed) as caught:
                await lines(container, **how)
            assert caught.value.path == file
        os.rmdir(file)
        os.symlink("/etc/passwd", file)
        with pytest.raises(asyncrt.StorageFailed, match="symbolic links"):
            await lines(container)
        os.unlink(file)
        os.mkfifo(file)
        assert await lines(container) == []  # nobody writes there
        options = f"{logs}/options.json"
        for content in ("", "{", "[]", "5", '{"stdout": 5}', '{"stdout": {}}'):
            with open(options, "w") as broken:
                broken.write(content)
            with pytest.raises(asyncrt.StorageFailed) as caught:
                await lines(container)
            assert caught.value.path == options
        os.unlink(options)
        with pytest.raises(asyncrt.StorageFailed, match="No such file"):
            await lines(container)


async def test_an_execs_output_goes_to_the_containers_log_too(engine: Engine) -> None:
    container = await started(engine, "web", shell("exec >&-; sleep 1000"), stdout=LOG)
    async with destroyed(container):
        process = await container.exec(["/bin/echo", "beside"], stdout=LOG)
        await process.wait()
        process.close()
        async with asyncio.timeout(20), aclosing(container.logs(follow=True)) as reading:
            assert (await anext(reading)).text == "beside"


async def test_many_follow_one_log_and_cost_one_descriptor_for_all_changes(
    engine: Engine,
) -> None:
    script = "read x; seq 1 1000"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=LOG)
    assert container.stdin is not None
    async with destroyed(container):
        reading = [asyncio.create_task(lines(container, follow=True)) for _ in range(20)]
        await until(lambda: len(_inotifies()) == 1, "they listen")
        container.stdin.write(b"go\n")
        for each in await asyncio.gather(*reading):
            assert len(each) == 1000
        assert _inotifies() == []


def _inotifies() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return [each for each in found if "inotify" in each]


# A killed supervisor


@pytest.mark.parametrize("how", [RAW, Log(max_bytes=1 << 20, files=2), PIPE], ids=repr)
async def test_output_of_any_size_takes_no_more_memory(
    engine: Engine, root: str, how: Any, full: bool
) -> None:
    if how is RAW and full and not _has_room(root):
        capabilities.skip_lacking("3 GB in memory, for a log of 1 GB")
    megabytes = 1024 if full else 64
    script = f"read x; head -c 4M /dev/zero; echo begun >&2; read x; head -c {megabytes}M /dev/zero"
    container = await started(engine, "web", shell(script), stdin=PIPE, stdout=how, stderr=PIPE)
    assert container.stdin is not None
    async with destroyed(container), asyncio.timeout(60):
        supervisor = supervisor_of(container, root)
        total = 0
        ended = asyncio.create_task(container.wait())
        container.stdin.write(b"go\n")
        if how is PIPE:
            assert container.stdout is not None
            await container.stdout.readexactly(4 << 20)
        assert await line(container.stderr) == "begun"
        before = [_resident(each) for each in (os.getpid(), supervisor)]
        container.stdin.write(b"go\n")
        if how is PIPE:
            assert container.stdout is not None
            while data := await container.stdout.read(1 << 20):
                total += len(data)
            assert total == megabytes << 20
        else:
            most = before[1]
            while not ended.done():
                most = max(most, _resident(supervisor))
                await asyncio.wait((ended,), timeout=0.01)
            assert most - before[1] < 4 << 20
        await ended
        if how is RAW:
            async for each in container.logs():
                total += len(each.data)
            assert total == (megabytes + 4) << 20
        assert _resident(os.getpid()) - before[0] < 24 << 20


def _has_room(path: str) -> bool:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize > 3 << 30


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


async def test_a_pipe_that_nobody_reads_holds_the_workload_back(engine: Engine) -> None:
    script = "head -c 10M /dev/zero; echo all >&2"
    container = await started(engine, "web", shell(script), stdout=PIPE, stderr=PIPE)
    async with destroyed(container):
        assert container.stdout is not None
        assert container.stderr is not None
        waiting = asyncio.ensure_future(container.stderr.readline())
        done, _ = await asyncio.wait((waiting,), timeout=0.2)
        assert not done
        assert len(await container.stdout.readexactly(10 << 20)) == 10 << 20
        assert await waiting == b"all\n"


async def test_a_full_disk_kills_no_workload_and_is_told_to_its_reader(
    engine: Engine, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    container = await engine.create("web", spec=shell("seq 1 1000000; exit 7"), stdout=RAW)
    logs = f"{root}/web.d/logs"
    supervisor = supervisor_of(container, root)
    # What the supervisor may write, not what the disk has, so that no test needs a disk of its own.
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (100_000, 100_000))
    async with destroyed(container):
        await container.start()
        assert (await container.wait()).exit_code == 7
        with caplog.at_level(logging.WARNING):
            found = await lines(container)
        assert len(joined(found)) == 100_000
        assert any("couldn't be written" in each.message for each in caplog.records)
        assert os.path.exists(f"{logs}/stdout.lost")
