"""A working directory that is missing: made where the root is the container's, never in the host's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asyncrt
from asyncrt import Engine
from tests.helpers.capabilities import User
from tests.helpers.layers import owned_rootfs
from tests.helpers.leaks import LeakCheck
from tests.helpers.processes import asyncrt_as
from tests.helpers.sandboxes import EVERYBODY, USER, config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_MISSING = "/asyncrt-no-such-directory"


def _at(rootfs: str, cwd: str, **options: Any) -> asyncrt.Spec:
    made = config(rootfs, ["/bin/pwd"], **options)
    made["process"]["cwd"] = cwd
    return spec(made)


async def test_in_an_image_it_is_made(engine: Engine, open_directory: Path) -> None:
    rootfs = owned_rootfs(str(open_directory / "rootfs"), "root")
    done = await engine.run("box", spec=_at(rootfs, "/deep/er"), stdout=asyncrt.PIPE)
    assert done.stdout == b"/deep/er\n"
    assert os.path.isdir(f"{rootfs}/deep/er")


async def test_in_the_hosts_root_it_is_missed_and_not_made(engine: Engine) -> None:
    for readonly in (True, False):
        made = _host(_MISSING)
        made["root"]["readonly"] = readonly
        with pytest.raises(asyncrt.StartFailed) as caught:
            await engine.create("box", spec=spec(made))
        assert (caught.value.what, caught.value.path) == ("process.cwd", _MISSING)
        assert isinstance(caught.value.__cause__, Exception)
        assert "No such file or directory" in str(caught.value)
        assert not os.path.exists(_MISSING)


def _host(cwd: str) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(
        asyncrt.Spec.sandbox(["/bin/pwd"], host_root_readonly=True, cwd=cwd).encoded()
    )
    return made


async def test_in_a_layer_over_the_hosts_or_in_memory_on_it_it_is_made(engine: Engine) -> None:
    layered, in_memory = _host(_MISSING), _host("/tmp/asyncrt-no-such-directory")
    done = await engine.run(
        "box", spec=spec(layered), overlay=asyncrt.Overlay.memory(), stdout=asyncrt.PIPE
    )
    assert done.stdout == f"{_MISSING}\n".encode()
    done = await engine.run("box", spec=spec(in_memory), stdout=asyncrt.PIPE)
    assert done.stdout == b"/tmp/asyncrt-no-such-directory\n"
    assert not os.path.exists(_MISSING)
    assert not os.path.exists("/tmp/asyncrt-no-such-directory")


@pytest.mark.parametrize("who", [each for each in EVERYBODY if each != "root"])
async def test_where_nothing_may_be_made_it_is_missed(
    who: str, engine: Engine, rootfs: str, ordinary_user: User, leak_check: LeakCheck
) -> None:
    """The image is somebody else's: that it couldn't be made isn't what there is to say."""
    made = _at(rootfs, _MISSING, who=who, user=ordinary_user)
    if who != USER:
        with pytest.raises(asyncrt.StartFailed, match=r"cwd .*No such file or directory"):
            await engine.create("box", spec=made)
        return
    root = tempfile.mkdtemp(prefix="asyncrt-test-")
    leak_check.watch_root(root)
    os.chown(root, ordinary_user.uid, ordinary_user.gid)
    words = ("do", "--cwd", _MISSING, "--", "true"), ("do", "--cwd", "/root", "--", "true")
    for each, why in zip(words, ("No such file or directory", "Permission denied"), strict=True):
        done = asyncrt_as(ordinary_user, "--root", root, *each)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert f"'--cwd': '{each[2]}': {why}" in done.stderr
