"""Sandboxes without pivot_root, as on an initramfs: the old root is still there, and out of reach."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import asyncrt
from asyncrt.platforms import linux
from tests.helpers import capabilities, programs, sandboxes
from tests.helpers.containers import destroyed, rest
from tests.helpers.sandboxes import MAPPED, ROOT, config, said, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])

# Ways out: past the root by "..", by unmounting it, by joining the namespace again; each in the
# namespaces that there are, and in new ones where everything is allowed. Tells of a file of the host's
# that it comes to see, and of a procfs that shows more than the one that is there.
_OUT = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static const char *mark;
static void look(const char *how) {
    if (!access(mark, F_OK) || !access(mark + 1, F_OK)) printf("out: %s\\n", how);
}
static void climb(void) {
    mkdir("/tmp/below", 0755);
    if (chroot("/tmp/below")) return;
    for (int i = 0; i < 64; i++) chdir("..");
    look("..");
    chroot(".");
    look(".. and chroot");
}
static void leave(const char *how) {
    int own = open("/proc/self/ns/mnt", O_RDONLY);
    umount2("/", MNT_DETACH);
    look(how);
    setns(own, CLONE_NEWNS);
    look("umount and setns");
    umount2("/", MNT_DETACH);
    look("umount twice");
    climb();
}
static void apart(void (*act)(void)) {
    fflush(stdout);
    if (!fork()) { act(); fflush(stdout); _exit(0); }
    wait(0);
}
static void here(void) { leave("umount"); }
static void more_proc(void) {
    if (!mount("proc", "/tmp", "proc", 0, 0)) printf("another procfs\\n");
}
static void nested(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)) return;
    apart(more_proc);
    leave("nested umount");
}
int main(int count, char **args) {
    mark = args[1];
    apart(climb);
    apart(here);
    apart(nested);
    printf("tried\\n");
    return 0;
}
"""


@pytest.fixture
async def engine(root: str) -> AsyncIterator[asyncrt.Engine]:
    async with asyncrt.Engine(root, pivot_root=False) as made:
        yield made


@pytest.fixture
def image(open_directory: Path) -> str:
    """A root file system with the program that tries to get out."""
    made = sandboxes.make_rootfs(str(open_directory / "image"))
    if not programs.compile_static(_OUT, os.path.join(made, "bin", "out")):
        capabilities.skip_lacking("a C compiler with a static library")
    return made


_SEEN = "ls -a / /proc/self/fd | sort; cut -d' ' -f4- /proc/self/mountinfo | cut -d- -f1 | sort"


@as_root
async def test_the_root_is_what_it_is_with_pivot_root(
    root: str, engine: asyncrt.Engine, rootfs: str, who: str
) -> None:
    made = config(rootfs, ["/bin/sh", "-c", _SEEN], who=who)
    found = await said(engine, made)
    async with asyncrt.Engine(root) as pivoting:
        assert found == await said(pivoting, made)
    assert "/proc/self/fd" in found


@as_root
async def test_an_exec_comes_to_the_new_root(engine: asyncrt.Engine, rootfs: str, who: str) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, ["/bin/true"], who=who)))
    async with destroyed(container):
        process = await container.exec(["/bin/ls", "/"], stdout=asyncrt.PIPE)
        assert (await rest(process.stdout)).split() == sorted(os.listdir(rootfs))
        process.close()


async def test_an_exec_that_could_unmount_the_root_is_refused(
    engine: asyncrt.Engine, rootfs: str
) -> None:
    container = await engine.create("box", spec=spec(config(rootfs, ["/bin/true"])))
    async with destroyed(container):
        with pytest.raises(asyncrt.SpecUnsupported, match="unmount the root"):
            await container.exec(["/bin/true"], capabilities=["CAP_SYS_ADMIN"])


@as_root
async def test_nothing_of_the_old_root_can_be_reached(
    engine: asyncrt.Engine, image: str, open_directory: Path, who: str
) -> None:
    mark = open_directory / "mark"
    mark.touch()
    made = config(image, ["/bin/out", str(mark)], who=who)
    sets = ("bounding", "effective", "permitted")
    granted = ["CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]
    made["process"]["capabilities"] = dict.fromkeys(sets, granted)
    assert await said(engine, made) == "tried\n"


@pytest.mark.parametrize("name", ["bounding", "ambient"])
def test_who_could_unmount_the_root_is_refused(rootfs: str, name: str) -> None:
    made = config(rootfs, ["true"])
    made["process"]["capabilities"] = {name: ["CAP_SYS_ADMIN"]}
    linux.plan(spec(made))
    with pytest.raises(asyncrt.SpecUnsupported) as caught:
        linux.plan(spec(made), pivot_root=False)
    assert caught.value.fields == (f"process.capabilities.{name}",)
    assert "unmount the root" in str(caught.value)


async def test_who_could_unmount_the_root_is_not_execd_by_anybody(
    root: str, engine: asyncrt.Engine, rootfs: str
) -> None:
    """Also not by an engine that says nothing of pivot_root: it is the container that has none."""
    container = await engine.create("box", spec=spec(config(rootfs, ["/bin/true"])))
    async with destroyed(container), asyncrt.Engine(root) as other:
        box = await other.load("box")
        named = {"bounding": ["CAP_SYS_ADMIN"]}
        for options in (
            {"args": ["/bin/true"], "capabilities": ["CAP_SYS_ADMIN"]},
            {"process": {"cwd": "/", "args": ["/bin/true"], "capabilities": named}},
        ):
            with pytest.raises(asyncrt.SpecUnsupported, match="unmount the root"):
                await box.exec(**options)
        process = await box.exec(["/bin/true"], capabilities=["CAP_CHOWN"])
        assert (await process.wait()).exit_code == 0
        process.close()
