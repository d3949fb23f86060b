"""A pool of sandboxes: namespaces and layers made ahead, each one's own, and none of them forgotten."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

import asyncrt
from asyncrt import Engine, Status, _procid
from asyncrt.state import Record, read_record
from tests.helpers import layers, reality, sandboxes
from tests.helpers.capabilities import User
from tests.helpers.containers import SECONDS, gone, record_of, rest
from tests.helpers.layers import owned_rootfs
from tests.helpers.processes import Interpreter, until
from tests.helpers.records import names
from tests.helpers.sandboxes import EVERYBODY, USER, config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_SLEEP = ["/bin/sleep", "1000"]
_WRITES = "cat /work/f 2>/dev/null; echo $HOSTNAME $$ >/work/f; cat /work/f"

# Takes two after one another, and prints what each has found and written.
_TAKER = """
import asyncio, sys
import asyncrt
from tests.helpers.layers import overlay_of

async def main():
    root, made, kind, directory = sys.argv[1:]
    async with asyncrt.Engine(root, platform="linux") as engine:
        spec = asyncrt.Spec.decode(made.encode())
        overlay = overlay_of(kind, directory)
        async with engine.pool(spec=spec, size=2, stdout=asyncrt.PIPE, overlay=overlay) as pool:
            for _ in range(2):
                container = await pool.take()
                print((await container.stdout.read()).decode().split())
                assert (await container.wait()).exit_code == 0
                await container.destroy()
        print(await engine.list(), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("who", EVERYBODY)
async def test_each_writes_to_a_layer_of_its_own_and_nothing_of_it_stays(
    who: str, kind: str, root: str, open_directory: Path, ordinary_user: User
) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), who, ordinary_user)
    place = open_directory / "layers"
    place.mkdir()
    before = layers.picture(rootfs)
    user, group = (ordinary_user.uid, ordinary_user.gid) if who == USER else (None, None)
    made = config(rootfs, ["/bin/sh", "-c", _WRITES], who=who, user=ordinary_user)
    if who == USER:
        for each in (root, place):
            os.chown(each, ordinary_user.uid, ordinary_user.gid)
    arguments = (root, json.dumps(made), kind, str(place))
    with Interpreter(_TAKER, *arguments, flags=("-B",), user=user, group=group) as child:
        taken = [await child.next_line() for _ in range(2)]
        assert taken[0] == taken[1]
        assert await child.next_line() == "[]"
        assert child.wait() == 0
    os.chown(root, os.geteuid(), os.getegid())  # of an ordinary user's, for who cleans up
    assert layers.picture(rootfs) == before
    assert os.listdir(place) == []
    assert sandboxes.mounts_below(str(open_directory), root, layers.MOUNTED) == []


async def test_namespaces_are_made_ahead(engine: Engine, rootfs: str) -> None:
    script = "echo $$ $(hostname)"
    made = spec(config(rootfs, ["/bin/sh", "-c", script]))
    async with engine.pool(spec=made, size=1, stdout=asyncrt.PIPE) as pool:
        (view,) = await engine.list()
        assert (view.status, view.platform) == (Status.CREATED, "linux")
        for each in ("pid", "mnt", "net", "ipc", "uts"):
            assert os.readlink(f"/proc/{view.pid}/ns/{each}") != os.readlink(
                f"/proc/self/ns/{each}"
            )
        container = await pool.take()
        assert container.id == view.id
        assert await rest(container.stdout) == "1 box\n"
        await container.destroy()


async def test_a_layer_that_is_kept_is_one_containers_and_refused(
    engine: Engine, rootfs: str, tmp_path: Path
) -> None:
    made = spec(config(rootfs, _SLEEP))
    kept = asyncrt.Overlay.upper(tmp_path / "kept")
    with pytest.raises(asyncrt.SpecInvalid, match="one container at a time") as caught:
        engine.pool(spec=made, size=1, overlay=kept)
    assert caught.value.json_path == "overlay"
    assert str(tmp_path / "kept") in str(caught.value)
    assert os.listdir(tmp_path) == []


async def test_a_layer_that_cant_be_had_is_told_at_the_entry_and_nothing_is_left(
    engine: Engine, rootfs: str
) -> None:
    memory = asyncrt.Overlay.memory()
    refused = [
        (asyncrt.SpecUnsupported, asyncrt.Spec.command(["/bin/true"]), memory),
        (asyncrt.SpecInvalid, spec(config(rootfs, _SLEEP)), "memory"),
    ]
    for error, made, overlay in refused:
        with pytest.raises(error):
            async with engine.pool(spec=made, size=2, overlay=overlay):  # type: ignore[arg-type]  # as people mistake it
                pytest.fail("it was entered")
        assert reality.files(engine.root) == set()


async def test_one_whose_gofer_has_died_in_stock_is_replaced(engine: Engine, rootfs: str) -> None:
    """It could write nothing."""
    made = spec(config(rootfs, _SLEEP))
    async with engine.pool(spec=made, size=1, overlay=asyncrt.Overlay.memory()) as pool:
        (view,) = await engine.list()
        first = await engine.load(view.id)
        gofer = record_of(first, engine.root).gofer
        assert gofer is not None
        os.kill(gofer.pid, signal.SIGKILL)
        assert (await first.wait()).reason == "gofer died"
        taken = await pool.take()
        assert taken.id != first.id
        assert (await taken.view()).status is Status.RUNNING
        await taken.destroy()
    assert reality.files(engine.root) == set()


_OWNER = """
import asyncio, sys
import asyncrt

async def main():
    root, made, directory = sys.argv[1:]
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(made.encode())
        overlay = asyncrt.Overlay.disk(directory)
        async with engine.pool(spec=spec, size=3, overlay=overlay) as pool:
            taken = await pool.take()
            print("ready", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_owners_stock_ends_and_gc_takes_its_layers_away(
    engine: Engine, rootfs: str, tmp_path: Path
) -> None:
    """Of what never ran nobody exports anything, so that its layer's holders end too."""
    made = json.dumps(config(rootfs, _SLEEP))
    with Interpreter(_OWNER, engine.root, made, tmp_path) as owner:
        assert await owner.next_line() == "ready"
        taken: list[Record] = []
        stock: list[Record] = []
        for view in await engine.list():
            if view.status in {Status.CREATED, Status.RUNNING}:
                record = read_record(engine.root, view.id)
                (taken if view.status is Status.RUNNING else stock).append(record)
        assert (len(taken), len(stock)) in {(1, 2), (1, 3)}
        owner.kill()
    for record in (*taken, *stock):
        assert record.init is not None
        await gone(record.init.pid)
    for record in stock:
        for each in (record.gofer, record.supervisor):
            assert each is not None
            await gone(each.pid)
    (ran,) = taken
    assert ran.gofer is not None
    assert _procid.alive(ran.gofer)  # what it wrote is there to be exported
    async with asyncio.timeout(SECONDS):
        while names(engine.root):  # of the one that was being made the end may come a moment later
            await engine.recover()
            await asyncio.sleep(0.01)
    await until(lambda: not reality.strays(), "nothing of it runs")
    assert names(engine.root) == []
    assert os.listdir(tmp_path) == []
    assert sandboxes.mounts_below(str(tmp_path), engine.root, layers.MOUNTED) == []
