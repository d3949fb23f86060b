"""The parts of launch.namespaces that need no namespace."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asyncrt.launch import mounts, namespaces
from asyncrt.launch.failure import Failure
from tests.helpers.processes import run_python

if TYPE_CHECKING:
    from asyncrt.launch.plan import IdMaps


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def _maps(uid: str, gid: str) -> IdMaps:
    lines = [[0, 1000, 1], [1, 100000, 65536]]
    return {"uid": lines, "gid": lines[:1], "programs": [uid, gid], "deny_setgroups": False}


def test_wider_maps_are_written_by_the_programs_that_know_who_may(tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = _program(tmp_path / "newmap", f'echo "$@" >> {said}')
    namespaces.write_maps(4711, _maps(program, program))
    assert said.read_text(encoding="utf-8").splitlines() == [
        "4711 0 1000 1 1 100000 65536",
        "4711 0 1000 1",
    ]


def test_what_such_a_program_says_is_in_the_error(tmp_path: Path) -> None:
    good = _program(tmp_path / "newuidmap", "true")
    bad = _program(tmp_path / "newgidmap", "echo gid range not allowed >&2; exit 1")
    with pytest.raises(Failure) as caught:
        namespaces.write_maps(4711, _maps(good, bad))
    assert caught.value.report() == {
        "what": "linux.gidMappings",
        "path": "gid range not allowed",
        "errno": errno.EPERM,
        "hook": "",
    }


_CLONES = """
import os, threading
from asyncrt import _libc
pid = _libc.clone(0)
if pid == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    _libc.clone(0x800)  # CLONE_SIGHAND without CLONE_VM
except OSError as error:
    print(error.strerror)
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
try:
    pid = _libc.clone(0)
    if pid == 0:
        os._exit(0)
except RuntimeError as error:
    print(error)
go.set()
thread.join()
"""


def test_hazard_33_a_clone_is_a_fork_for_who_has_no_threads_and_its_failure_an_error() -> None:
    lines = run_python(_CLONES).stdout.splitlines()
    assert lines[:2] == ["7", "Invalid argument"]
    assert lines[2].startswith("a process with threads can't be cloned")


def test_a_look_up_in_a_root_never_leads_out(tmp_path: Path) -> None:
    inside = tmp_path / "root"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (inside / "link").symlink_to("../outside")
    (inside / "absolute").symlink_to(tmp_path / "outside")
    root = os.open(inside, os.O_PATH)
    try:
        for path in ("link", "absolute", "../outside", "link/../../outside"):
            with pytest.raises(FileNotFoundError):
                mounts.resolve(root, path)
        os.close(mounts.ensure(root, "a/b/c", directory=True))
        os.close(mounts.ensure(root, "a/file", directory=False))
        assert (inside / "a/b/c").is_dir()
        assert (inside / "a/file").is_file()
        with pytest.raises(OSError, match=r"File exists|No such file"):
            mounts.ensure(root, "link/made", directory=True)
        with pytest.raises(OSError, match="Too many levels"):
            mounts.resolve(
                root, "link", resolve=mounts.RESOLVE_IN_ROOT | mounts.RESOLVE_NO_SYMLINKS
            )
    finally:
        os.close(root)
    assert list((tmp_path / "outside").iterdir()) == []
