"""Bad input: one clear error of a class one can catch, nothing left, nobody harmed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from asyncrt import Engine, Status
from tests.helpers.capabilities import User, skip_lacking
from tests.helpers.containers import destroyed, sleeper, started
from tests.helpers.records import names


def is_one_clear_line(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert isinstance(error, asyncrt.AsyncrtError)
    assert text
    assert "\n" not in text
    for part in parts:
        assert part in text, text


BAD_IDS = [
    "..",
    ".",
    "a/b",
    "",
    "x" * 300,
    "a\n",
    "a\0",
    "١",
    "é",
    "a b",
    "-" * 201,
    "a~",
    "/",
    "*",
]


@pytest.mark.parametrize("id", BAD_IDS, ids=ascii)
async def test_a_bad_id_is_refused_before_anything_is_made(id: str, engine: Engine) -> None:
    """HAZARDS 20."""
    for make in (engine.create, engine.run):
        with pytest.raises(asyncrt.InvalidId) as caught:
            await make(id, spec=sleeper())
        is_one_clear_line(caught.value)
    # Where it may be abbreviated, these may be the beginning of one.
    with pytest.raises(asyncrt.ContainerNotFound if id in {".", ".."} else asyncrt.InvalidId):
        await engine.load(id)
    with pytest.raises(asyncrt.InvalidId):
        await engine.list(sandbox=id)
    assert names(engine.root) == []


@pytest.mark.parametrize("id", ["-", "--help", "a.lock", "a.state", "a.d", "+", "...", "_"])
async def test_an_odd_but_valid_id_collides_with_nothing(id: str, engine: Engine) -> None:
    async with (
        destroyed(await started(engine, id, sleeper())) as odd,
        destroyed(await started(engine, "a", sleeper())) as plain,
    ):
        assert {view.id for view in await engine.list()} == {id, "a"}
        assert (await odd.view()).status is (await plain.view()).status is Status.RUNNING


# --- roots


@pytest.mark.parametrize("case", ["file", "link", "dangling link", "below a file", "NUL", "empty"])
async def test_a_root_that_is_none_is_refused(case: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "dangling").symlink_to("nowhere")
    roots: dict[str, str | Path] = {
        "file": tmp_path / "file",
        "link": tmp_path / "link",
        "dangling link": tmp_path / "dangling",
        "below a file": tmp_path / "file" / "root",
        "NUL": "a\0b",
        "empty": "",
    }
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(asyncrt.RootUnusable) as caught:
        async with asyncrt.Engine(roots[case]):
            pass
    is_one_clear_line(caught.value, "can't use root directory")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
async def test_a_root_that_others_may_write_in_is_refused(mode: int, root: str) -> None:
    os.chmod(root, mode)
    with pytest.raises(asyncrt.RootUnusable) as caught:
        async with asyncrt.Engine(root):
            pass
    is_one_clear_line(caught.value, root)
    os.chmod(root, 0o700)


@pytest.mark.needs_root
def test_a_root_an_ordinary_user_may_not_write_is_refused(
    ordinary_user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = """
import asyncio, os, sys
import asyncrt

async def main(root):
    try:
        async with asyncrt.Engine(root):
            pass
    except asyncrt.RootUnusable as error:
        print(error)

for root in ("/proc/asyncrt", "/asyncrt-test", "/dev/null", "/etc", "/root/asyncrt"):
    asyncio.run(main(root))
"""
    from tests.helpers.processes import Interpreter

    with Interpreter(code, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid) as user:
        for root in ("/proc/asyncrt", "/asyncrt-test", "/dev/null", "/etc", "/root/asyncrt"):
            assert f"can't use root directory {root}: " in user.line()
        assert user.wait() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        skip_lacking("leave to mount a tmpfs")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.needs_root
async def test_on_a_full_disk_create_fails_leaves_nothing_and_others_go_on(
    small_disk: Path,
) -> None:
    """HAZARDS 16."""
    async with asyncrt.Engine(small_disk / "root") as engine:
        container = await started(engine, "web", sleeper())
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        before = names(engine.root)
        for _ in range(3):
            with pytest.raises(asyncrt.StorageFailed) as caught:
                await engine.create("other", spec=sleeper())
            is_one_clear_line(caught.value, "No space left on device")
        assert names(engine.root) == before
        assert (await container.view()).status is Status.RUNNING
        with pytest.raises(asyncrt.StorageFailed):
            await container.pause()
        view = await container.view()
        assert view.status is Status.RUNNING
        await container.kill("TERM")
        filler.unlink()
        assert (await container.wait()).signal == 15
        await container.destroy()
        assert names(engine.root) == []


# --- bundles


def bundle(directory: Path, content: bytes) -> Path:
    (directory / "config.json").write_bytes(content)
    return directory


def config(**changes: object) -> bytes:
    plain: dict[str, object] = {"ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["true"]}}
    return json.dumps({**plain, **changes}).encode()


BAD_CONFIGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n ", "is empty"),
    "no JSON": (b"{", "config.json"),
    "a comment": (b"// hello\n{}", "config.json"),
    "array": (b"[]", "config.json"),
    "not UTF-8": (b'{"ociVersion": "\xff"}', "config.json"),
    "deep": (b'{"ociVersion":"1.2.0","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "config.json"),
    "no version": (b"{}", "ociVersion"),
    "args of a wrong type": (config(process={"cwd": "/", "args": "true"}), "process.args"),
    "no args": (config(process={"cwd": "/", "args": []}), "process.args"),
    "no process": (b'{"ociVersion": "1.2.0"}', "process"),
    "relative cwd": (config(process={"cwd": "tmp", "args": ["true"]}), "process.cwd"),
    "uid too large": (
        config(process={"cwd": "/", "args": ["true"], "user": {"uid": 2**32, "gid": 0}}),
        "process.user.uid",
    ),
    "unknown limit": (
        config(
            process={
                "cwd": "/",
                "args": ["true"],
                "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}],
            }
        ),
        "process.rlimits[0].type",
    ),
    "relative hook": (config(hooks={"poststop": [{"path": "x"}]}), "hooks.poststop[0].path"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
async def test_a_bad_config_is_one_line_that_names_the_place(
    case: str, engine: Engine, tmp_path: Path
) -> None:
    content, part = BAD_CONFIGS[case]
    with pytest.raises(asyncrt.SpecInvalid) as caught:
        await engine.create("web", bundle=bundle(tmp_path, content))
    is_one_clear_line(caught.value, str(tmp_path / "config.json"), part)
    assert names(engine.root) == []


@pytest.mark.parametrize("case", ["missing", "directory", "fifo", "device", "huge", "no bundle"])
async def test_a_config_that_is_no_file_is_refused_and_hangs_nobody(
    case: str, engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    match case:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "huge":
            with path.open("wb") as file:
                file.truncate(17 << 20)
        case "no bundle":
            tmp_path = tmp_path / "nowhere"
            path = tmp_path / "config.json"
        case _:
            assert case == "missing"
    with pytest.raises(asyncrt.SpecInvalid) as caught:
        await engine.create("web", bundle=tmp_path)
    is_one_clear_line(caught.value, str(path))
    assert names(engine.root) == []


@pytest.mark.needs_root
def test_an_unreadable_config_is_told_as_such(ordinary_user: User, programs_directory: str) -> None:
    from tests.helpers.processes import Interpreter

    code = """
import sys
import asyncrt

try:
    asyncrt.Spec.from_bundle(sys.argv[1])
except asyncrt.SpecInvalid as error:
    print(error)
"""
    directory = Path(programs_directory, "bundle")
    directory.mkdir()
    bundle(directory, config())
    (directory / "config.json").chmod(0o600)
    with Interpreter(
        code, directory, flags=("-B",), user=ordinary_user.uid, group=ordinary_user.gid
    ) as user:
        assert user.line() == f"{directory}/config.json: Permission denied"


async def test_what_the_host_cannot_honour_is_refused_with_every_fields_name(
    engine: Engine, tmp_path: Path
) -> None:
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
    content = config(
        hostname="web",
        mounts=[{"destination": "/proc", "type": "proc", "source": "proc"}],
        linux={"namespaces": [{"type": "pid"}, {"type": "mount"}], "seccomp": seccomp},
        root={"path": "rootfs"},
    )
    async with asyncrt.Engine(engine.root, platform="host") as host:
        with pytest.raises(asyncrt.SpecUnsupported) as caught:
            await host.create("web", bundle=bundle(tmp_path, content))
    assert set(caught.value.fields) == {
        "hostname",
        "mounts",
        "linux.namespaces[0]",
        "linux.namespaces[1]",
        "linux.seccomp",
        "root.path",
    }
    is_one_clear_line(caught.value, *caught.value.fields)
    assert names(engine.root) == []


async def test_a_bundle_and_its_state_file_agree(engine: Engine, tmp_path: Path) -> None:
    made = await engine.create("web", bundle=bundle(tmp_path, config(annotations={"a": "b"})))
    async with destroyed(made) as container:
        assert (await container.view()).bundle == str(tmp_path)
        state = await container.state()
        assert (state["bundle"], state["annotations"]) == (str(tmp_path), {"a": "b"})


# --- arguments


@pytest.mark.parametrize("user", ["no-such-user", "0:no-such-group", "1:2:3", "", ":", "-1", "４"])
def test_an_unknown_user_is_refused(user: str) -> None:
    """HAZARDS 43."""
    with pytest.raises(asyncrt.SpecInvalid) as caught:
        sleeper(user=user)
    is_one_clear_line(caught.value, "process.user")


async def test_a_spec_and_a_bundle_or_neither_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(asyncrt.SpecInvalid):
        await engine.create("web")
    with pytest.raises(asyncrt.SpecInvalid):
        await engine.create("web", spec=sleeper(), bundle=tmp_path)
    with pytest.raises(asyncrt.SpecInvalid):
        await engine.create("web", spec=asyncrt.Spec.decode(b'{"ociVersion": "1.2.0"}'))
    with pytest.raises(asyncrt.SpecInvalid):
        asyncrt.Engine(engine.root, platform="solaris")
    assert names(engine.root) == []


async def test_an_argument_of_a_wrong_type_is_refused_by_its_name(
    engine: Engine, tmp_path: Path
) -> None:
    any_engine: Any = engine
    lock: Any = asyncrt.FileLock(tmp_path / "lock")
    spec = sleeper()
    async with destroyed(await started(engine, "web", spec)) as web:
        container: Any = web
        calls: list[tuple[Any, str]] = [
            (lambda: any_engine.run("a", spec=spec, input="text"), "input is 'text'"),
            (lambda: any_engine.run("a", spec=spec, timeout="x"), "timeout is 'x'"),
            (
                lambda: any_engine.run("a", spec=spec, deadline_seconds="5"),
                "deadline_seconds is '5'",
            ),
            (lambda: any_engine.create("a", spec=spec, timeout="x"), "timeout is 'x'"),
            (
                lambda: any_engine.create("a", spec=spec, supervision="owned"),
                "supervision is 'owned'",
            ),
            (
                lambda: any_engine.create("a", spec=spec, supervision=["own"]),
                "supervision is ['own']",
            ),
            (lambda: any_engine.create("a", bundle=5), "path of a directory, not 5"),
            (
                lambda: any_engine.create("a", spec=spec, stdout="/x.log"),
                "open() it, or use asyncrt.LOG",
            ),
            (
                lambda: any_engine.create("a", spec=spec, stderr=subprocess.STDOUT),
                "stderr=-2 isn't an open descriptor or file; give it what stdout has",
            ),
            (
                lambda: any_engine.create("a", spec=spec, stdin=subprocess.PIPE),
                "INHERIT, DEVNULL or PIPE",
            ),
            (lambda: any_engine.create(5, spec=spec), "container id '5': it is of type int"),
            (lambda: any_engine.load(None), "container id 'None': it is of type NoneType"),
            (lambda: any_engine.load(["web"]), "it is of type list"),
            (lambda: any_engine.delete(5, force=True), "it is of type int"),
            (lambda: any_engine.list(annotations=["a"]), "annotations is ['a']"),
            (lambda: any_engine.list(status=5), "status is 5"),
            (lambda: any_engine.list(sandbox=5), "it is of type int"),
            (lambda: container.stop(grace_seconds="5"), "grace_seconds is '5'"),
            (lambda: container.stop(grace_seconds=None), "grace_seconds is None"),
            (lambda: container.pause(timeout="5"), "timeout is '5'"),
            (lambda: container.wait(timeout="5"), "timeout is '5'"),
            (lambda: container.wait(timeout=True), "timeout is True"),
            (lambda: container.exec(["true"], deadline_seconds="5"), "deadline_seconds is '5'"),
            (lambda: lock.acquire(timeout="5"), "timeout is '5'"),
        ]
        for call, said in calls:
            with pytest.raises(asyncrt.AsyncrtError) as caught:
                await call()
            assert isinstance(caught.value, asyncrt.SpecInvalid | asyncrt.InvalidId), said
            is_one_clear_line(caught.value, said)
        assert [each.id for each in await engine.list()] == ["web"]
        assert (await web.view()).status is Status.RUNNING
    assert not lock.locked


@pytest.mark.parametrize("data", [{"process": 1}, "text", 5])
def test_a_spec_of_anything_but_bytes_is_refused(data: Any) -> None:
    for make in (asyncrt.Spec, asyncrt.Spec.decode):
        with pytest.raises(asyncrt.SpecInvalid) as caught:
            make(data)
        is_one_clear_line(caught.value, "expected the bytes of a config.json", repr(data))


def test_an_engine_refuses_a_lock_timeout_that_is_no_number(root: str) -> None:
    wrong: Any = "x"
    with pytest.raises(asyncrt.SpecInvalid, match="lock_timeout is 'x'"):
        asyncrt.Engine(root, lock_timeout=wrong)


async def test_a_wait_that_took_too_long_says_for_whom_and_how_long(engine: Engine) -> None:
    async with destroyed(await started(engine, "web", sleeper())) as web:
        with pytest.raises(
            TimeoutError, match=r"^container 'web' hasn't ended within 0\.01 s; it goes on$"
        ):
            await web.wait(timeout=0.01)


async def test_an_engine_that_is_not_open_says_how_to_open_it(root: str) -> None:
    engine = asyncrt.Engine(root)
    with pytest.raises(RuntimeError, match="async with"):
        await engine.list()
    async with engine:
        assert await engine.list() == []
    with pytest.raises(RuntimeError, match="async with"):
        await engine.list()
    await engine.close()
