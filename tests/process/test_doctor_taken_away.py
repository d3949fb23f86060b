"""The doctor where something was taken away: it is named, and its mend, run as it stands, mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers import capabilities
from tests.helpers.capabilities import User
from tests.helpers.processes import REPOSITORY

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("unshare", "setpriv", "mount", "sysctl"),
]

_LOOK = """
import json
from asyncrt.platforms.linux.doctor import examine
print(json.dumps([each._asdict() for each in examine()]))
"""


class Case(NamedTuple):
    """What is taken away by a shell's words, run by whom; the finding that tells of it."""

    take: str
    check: str
    found: str
    state: str
    become: tuple[str, ...] = ("unshare", "-m")
    runs: bool = True  # the mend can be run right there


_IN_USERNS = ("unshare", "-Urm")
_HIDDEN = "mount -t tmpfs none "
_CGROUPS = (
    'for m in $(grep -o " /sys/fs/cgroup[^ ]* cgroup" /proc/mounts | cut -d" " -f2); do '
    "mount -o remount,bind,ro $m; done"
)
CASES = {
    "a limit on network namespaces": Case(
        "echo 0 > /proc/sys/user/max_net_namespaces",
        "new net namespace",
        "user.max_net_namespaces is 0",
        "missing",
        _IN_USERNS,
    ),
    "a limit on user namespaces": Case(
        "echo 0 > /proc/sys/user/max_user_namespaces",
        "new user namespace",
        "user.max_user_namespaces is 0",
        "limited",
        _IN_USERNS,
    ),
    "a proc that is covered in parts": Case(
        "mount -t tmpfs none /proc/irq && unshare -Ur",
        "new procfs",
        "can't be mounted: parts of the one here are covered",
        "missing",
        runs=False,
    ),
    "a capability of root's": Case(
        "setpriv --bounding-set=-sys_admin,-net_admin",
        "privileges of root",
        "no CAP_SYS_ADMIN CAP_NET_ADMIN",
        "missing",
        runs=False,
    ),
    "cgroups": Case("umount -R /sys/fs/cgroup", "cgroups", "none is mounted", "limited"),
    "writable cgroups": Case(_CGROUPS, "cgroup delegation", "isn't writable", "limited"),
    "proc": Case(_HIDDEN + "/proc", "/proc", "isn't mounted", "missing"),
    "the memory of /dev/shm": Case(
        "mount --bind /usr /dev/shm", "/dev/shm", "is on a disk", "limited"
    ),
    "the device of FUSE": Case(
        _HIDDEN + "/dev",
        "fuse-overlayfs",
        "can't be used: /dev/fuse: No such file or directory",
        "limited",
    ),
    "/dev/shm": Case(_HIDDEN + "/dev", "/dev/shm", "is missing", "limited"),
    "descriptors": Case("ulimit -Sn 512", "open files", "512:", "limited"),
}


def _driver(directory: Path) -> str:
    """A program that looks, mends by a shell as it was told, and looks again, as new processes."""
    path = directory / "driver.py"
    path.write_text(
        "import json, os, subprocess, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "def look():\n"
        "    command = [sys.executable, '-B', '-c', sys.argv[2]]\n"
        "    env = {**os.environ, 'PYTHONPATH': sys.argv[1]}\n"
        "    return json.loads(subprocess.run(command, env=env, stdout=-1, check=True).stdout)\n"
        "before = look()\n"
        "mends = [each['mend'] for each in before if each['check'] == sys.argv[3]]\n"
        "if sys.argv[4] == 'True':\n"
        "    for mend in mends:\n"
        "        if mend.startswith('ulimit'):\n"
        "            import resource\n"
        "            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "            limit = int(mend.split()[-1])\n"
        "            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))\n"
        "        else:\n"
        "            subprocess.run(['bash', '-ec', mend], stdout=sys.stderr, check=True)\n"
        "    print(json.dumps([before, look()]))\n"
        "else:\n"
        "    print(json.dumps([before, None]))\n",
        encoding="utf-8",
    )
    return str(path)


def _look(
    directory: Path, take: str, check: str, *become: str, mend: bool = True, **options: Any
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The finding before and after; the second None if it isn't looked for, {} if it is gone."""
    arguments = f'"$0" "{_driver(directory)}" "$1" "$2" "$3" "$4"'
    last = take.rpartition("&&")[2].strip()
    wraps = last.startswith(("unshare", "setpriv"))
    script = f"{take} {arguments}" if wraps else f"{take}; exec {arguments}"
    done = subprocess.run(
        [*become, "sh", "-ec", script, sys.executable, REPOSITORY, _LOOK, check, str(mend)],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        **options,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    [found] = [each for each in before if each["check"] == check]
    if after is None:
        return found, None
    return found, next((each for each in after if each["check"] == check), {})


@pytest.mark.parametrize("name", CASES)
def test_what_was_taken_away_is_named_and_its_mend_mends_it(
    open_directory: Path, name: str
) -> None:
    case = CASES[name]
    if "cgroup" in case.check and not capabilities.has_cgroups():
        capabilities.skip_lacking("cgroups to make")
    if "-U" in f"{case.become}{case.take}" and not capabilities.has_userns():
        capabilities.skip_lacking("user namespaces")
    before, after = _look(open_directory, case.take, case.check, *case.become, mend=case.runs)
    assert before["state"] == case.state
    assert case.found in before["found"]
    assert before["mend"]
    if after:
        assert after["state"] == "ok", after


def test_id_map_programs_without_privilege_are_told_and_mended(
    open_directory: Path, ordinary_user: User
) -> None:
    for name in ("newuidmap", "newgidmap"):
        (open_directory / name).write_text("#!/bin/sh\n")
        (open_directory / name).chmod(0o755)
    who = {"user": ordinary_user.uid, "group": ordinary_user.gid, "extra_groups": []}
    take = f"export PATH={open_directory}:$PATH"
    before, _ = _look(open_directory, take, "id map programs", mend=False, **who)
    assert "run without privilege" in before["found"]
    subprocess.run(["sh", "-ec", before["mend"]], check=True)
    take += " && setpriv --no-new-privs"
    before, _ = _look(open_directory, take, "id map programs", mend=False, **who)
    assert "no_new_privs is set" in before["found"]
