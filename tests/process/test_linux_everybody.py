"""What else a config asks for, seen from inside: by root, root with a map, and an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrt.oci.words import CAPABILITIES
from tests.helpers import capabilities
from tests.helpers.containers import SECONDS
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import (
    EVERYBODY,
    MAPPED,
    ROOT,
    USER,
    config,
    ended_by,
    make_rootfs,
    mount,
    said_by,
    shell,
)

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

everybody = pytest.mark.parametrize("who", EVERYBODY)


def _owner(who: str) -> int:
    """Whom root inside is outside."""
    user = capabilities.ordinary_user()
    assert user is not None
    return {ROOT: 0, MAPPED: 100000, USER: user.uid}[who]


@pytest.fixture
def volume(open_directory: Path) -> Path:
    """A directory of the host's for everybody, with one inside it that has a mount of its own."""
    path = open_directory / "volume"
    (path / "inner").mkdir(parents=True)
    for each in (path, path / "inner"):
        each.chmod(0o777)
    (path / "file").write_text("of the host\n", encoding="utf-8")
    return path


@everybody
@pytest.mark.parametrize("by_exec", ["", "started"])
def test_all_five_sets_of_an_ordinary_user_inside(rootfs: str, who: str, by_exec: str) -> None:
    made = shell(rootfs, "id -u; grep ^Cap /proc/self/status | cut -f2", who)
    made["process"]["user"] = {"uid": 1000, "gid": 1000}
    if who == USER:  # its only id
        for each in ("uidMappings", "gidMappings"):
            made["linux"][each][0]["containerID"] = 1000
        for mount_ in made["mounts"]:
            mount_["options"] = [each for each in mount_["options"] if "gid=" not in each]
    sets = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"],
        "inheritable": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL", "CAP_CHOWN"],
        "ambient": ["CAP_KILL"],
    }
    made["process"]["capabilities"] = sets
    code, out, err = ended_by(who, made, by_exec=by_exec)
    assert (code, err) == (0, "")

    def mask(*names: str) -> int:
        return sum(1 << CAPABILITIES[each] for each in names)

    uid, inheritable, permitted, effective, bounding, ambient = out.split()
    assert uid == "1000"
    # Of a program without capabilities of its own the ambient ones are left (capabilities(7)).
    kept = mask("CAP_KILL")
    assert [int(each, 16) for each in (permitted, effective, ambient)] == [kept] * 3
    assert int(inheritable, 16) == mask("CAP_KILL", "CAP_CHOWN")
    assert int(bounding, 16) == mask(*sets["bounding"])


@everybody
def test_what_is_bound_shows_with_its_flags(rootfs: str, volume: Path, who: str) -> None:
    script = (
        "cat /data/file; touch /data/new && echo written; touch /etc/new; cat /etc/file;"
        "cat /home/app; cp /bin/true /data/t; /data/t; grep -c ' /tmp ' /proc/mounts; ls /root"
    )
    made = shell(rootfs, f"({script}) 2>&1", who)
    place = str(volume)
    made["mounts"] += [
        mount("/data", "bind", "bind", "noexec", "nosuid", "nodev", source=place),
        mount("/etc", "none", "rbind", "ro", source=place),
        mount("/root", "bind", "rbind", "rro", source=f"{place}/inner"),
    ]
    made["process"]["env"].append("HOME=/")
    assert said_by(who, made).splitlines() == [
        "of the host",
        "written",
        "touch: /etc/new: Read-only file system",
        "of the host",
        "cat: read error: Is a directory",
        "/bin/sh: /data/t: Permission denied",
        "1",
    ]
    assert (volume / "new").stat().st_uid == _owner(who)


@everybody
def test_an_overlay_takes_writes_and_leaves_what_is_below_alone(
    rootfs: str, volume: Path, who: str
) -> None:
    for name in ("lower", "upper", "work"):
        (volume / name).mkdir()
        os.chown(volume / name, _owner(who), _owner(who))
    (volume / "lower" / "a").write_text("a\n", encoding="utf-8")
    layers = [f"{name}dir={volume / name}" for name in ("lower", "upper", "work")]
    made = shell(rootfs, "cat /data/a; echo b > /data/b; rm -f /data/gone", who)
    made["mounts"].append(mount("/data", "overlay", *layers))
    assert said_by(who, made) == "a\n"
    assert os.listdir(volume / "lower") == ["a"]
    assert (volume / "upper" / "b").read_text(encoding="utf-8") == "b\n"


@everybody
def test_what_the_config_hides_or_protects_is_so(open_directory: Path, who: str) -> None:
    image = make_rootfs(str(open_directory / "image"))
    os.chmod(f"{image}/work", 0o777)
    for name in ("secret", "work/kept"):
        Path(image, name).write_text("secret\n", encoding="utf-8")
        os.chmod(f"{image}/{name}", 0o666)
    script = (
        "cat /secret; ls -A /home; touch /home/x; echo y > /work/kept; echo z > /data/there;"
        "cat /work/kept"
    )
    made = shell(image, f"({script}) 2>&1", who)
    made["root"]["readonly"] = False
    made["mounts"].append(mount("/data", "tmpfs", "mode=777"))
    made["linux"]["maskedPaths"] = ["/secret", "/home", "/nowhere"]
    made["linux"]["readonlyPaths"] = ["/work", "/nowhere"]
    assert said_by(who, made).splitlines() == [
        "touch: /home/x: Read-only file system",
        "/bin/sh: can't create /work/kept: Read-only file system",
        "secret",
    ]


_TERMINAL = """
import asyncio, json, sys
import asyncrt
async def main():
    root, config = sys.argv[1], json.loads(sys.argv[2])
    async with asyncrt.Engine(root) as engine:
        spec = asyncrt.Spec.decode(json.dumps(config).encode())
        container = await engine.create("box", spec=spec)
        async with await container.attach() as terminal:
            await container.start()
            said = b""
            while data := await terminal.read():
                said += data
        await container.wait()
        await container.destroy()
        print(said.decode().replace("\\r", ""), end="")
asyncio.run(main())
"""


@everybody
def test_a_terminal_has_the_size_of_the_config(root: str, rootfs: str, who: str) -> None:
    user = capabilities.ordinary_user() if who == USER else None
    if who == USER and not capabilities.has_userns():
        capabilities.skip_lacking("unprivileged user namespaces")
    script = "tty; stty size; [ -c /dev/console ] && echo console; echo x > /dev/tty; echo $(id -u)"
    made = config(rootfs, ["/bin/sh", "-c", script], who=who, user=user)
    made["process"] |= {"terminal": True, "consoleSize": {"height": 12, "width": 34}}
    if user is not None:
        os.chown(root, user.uid, user.gid)
    done = subprocess.run(
        [sys.executable, "-B", "-c", _TERMINAL, root, json.dumps(made)],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=3 * SECONDS,
    )
    os.chown(root, 0, 0)
    assert done.stdout.splitlines() == ["/dev/pts/0", "12 34", "console", "x", "0"]


_TELL = (
    "[ -e /usr ] && root=outside || root=inside; s=$(cat); "
    'status=${s#*\\"status\\":\\ \\"}; '
    'echo $2 $root ${status%%\\"*} $(readlink /proc/self/ns/uts) >> $1'
)
_KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@everybody
def test_hooks_of_all_kinds_run_in_order_and_in_their_namespaces(
    rootfs: str, open_directory: Path, who: str
) -> None:
    told = open_directory / "told"
    told.touch()
    told.chmod(0o666)
    made = shell(rootfs, "readlink /proc/self/ns/uts", who)
    made["mounts"].append(mount("/etc/passwd", "bind", "bind", source=str(told)))
    made["process"]["env"].append("HOME=/")
    made["hooks"] = {
        kind: [
            {
                "path": "/bin/sh",
                "args": [
                    *("sh", "-c", _TELL, "sh"),
                    "/etc/passwd" if kind == "startContainer" else str(told),
                    kind,
                ],
            }
        ]
        for kind in reversed(_KINDS)
    }
    theirs = said_by(who, made).strip()
    ours = os.readlink("/proc/self/ns/uts")
    found = [line.split() for line in told.read_text(encoding="utf-8").splitlines()]
    # poststart may see that the program has ended already.
    assert [each[:1] + each[3:] for each in found] == [
        ["prestart", ours],
        ["createRuntime", ours],
        ["createContainer", theirs],
        ["startContainer", theirs],
        ["poststart", ours],
        ["poststop", ours],
    ]
    assert [each[1] for each in found] == [*["outside"] * 3, "inside", *["outside"] * 2]
    assert found[0][2] == found[2][2] == "creating"
