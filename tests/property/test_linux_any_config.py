"""Whatever a config asks of a sandbox, it is made and taken away, or there is one clear error.

Nothing of it is left in either case: no record, file, process, mount or cgroup. Programs aren't
started, so what a damaged config runs is of no concern; what it makes in files is the test's own.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncrt
from asyncrt.errors import AsyncrtError, SpecInvalid, SpecUnsupported, StartFailed
from asyncrt.oci.default_seccomp import default_seccomp
from tests.helpers import sandboxes
from tests.helpers.records import names
from tests.helpers.sandboxes import MAPPED, ROOT, mount
from tests.property.test_oci_any_json import ANY_JSON, places

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

_ID = f"fuzz{os.getpid()}"
_MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]

Place = tuple[str | int, ...]


def _config(image: str, who: str) -> dict[str, Any]:
    """One that has something of nearly every field that is honoured."""
    made = sandboxes.config(image, ["/bin/true"], who=who)
    made["process"] |= {
        "user": {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [7]},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}],
        "oomScoreAdj": 100,
        "noNewPrivileges": True,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 19},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    }
    made["mounts"] += [
        mount("/data", "tmpfs", "tmpcopyup", "size=64k", "mode=700"),
        mount("/etc", "bind", "rbind", "rro", "rprivate", source=f"{image}/etc"),
        mount("/home", "overlay", f"lowerdir={image}/home:{image}/root"),
        {
            **mount("/root", "bind", "bind", "idmap", "nosuid", source=f"{image}/root"),
            "uidMappings": _MAPPING,
            "gidMappings": _MAPPING,
        },
        mount("/sys/fs/cgroup", "cgroup", "ro"),
    ]
    made["linux"] |= {
        "devices": [
            {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 1},
            {"path": "/dev/q", "type": "p"},
        ],
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "100000"},
        "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}, "monotonic": {"secs": 3}},
        "rootfsPropagation": "rslave",
        "personality": {"domain": "LINUX"},
        "seccomp": default_seccomp([]),
    }
    made["linux"]["namespaces"].insert(0, {"type": "time"})
    if who == MAPPED:  # no node can be made there
        made["linux"]["devices"].pop(0)
    return made


# Not of these: what is theirs is the host's own, or what is bound; it is no test's to change.
_SPARED = {("root", "path"), ("linux", "cgroupsPath")}
_TEXTS = [
    *("", ".", "..", "/", "//", "/..", "/../../x", "/proc", "/proc/self", "/dev/x", "/gone/deep"),
    *("ro", "bind", "rbind", "remount", "rshared", "idmap", "tmpcopyup", "size=1", "mode=9", "x=y"),
    *("tmpfs", "proc", "cgroup", "user", "mount", "pid", "time", "CAP_SYS_ADMIN", "SCHED_FIFO"),
    *("a" * 300, "/" + "b" * 4100, "\u00e9", "a\nb", " ", "SCMP_ACT_ERRNO", "RLIMIT_AS", "c", "b"),
]
_NUMBERS = [-1, 0, 1, 2, 7, 100, 4096, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**63 - 1, 2**64]


def _like(value: Any) -> st.SearchStrategy[Any]:
    """Something else of the same type: what is of another one the decoder refuses at once."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.sampled_from(_NUMBERS)
    if isinstance(value, str):
        return st.sampled_from(_TEXTS)
    if isinstance(value, list) and value:
        less = st.integers(0, len(value) - 1).map(lambda at: value[:at] + value[at + 1 :])
        return less | st.just(value[::-1]) | st.just(value + value[:1]) | st.just([])
    if isinstance(value, dict) and value:
        gone = st.sampled_from(sorted(value))
        return gone.map(lambda key: {name: value[name] for name in value if name != key})
    return ANY_JSON


def _at(config: Any, path: Place) -> Any:
    for key in path:
        config = config[key]
    return config


def _is_spared(path: Place) -> bool:
    return path[:2] in _SPARED or (path[0] == "mounts" and path[-1] == "source")


@pytest.fixture
def image(open_directory: Path) -> str:
    made = sandboxes.make_rootfs(str(open_directory / "image"))
    Path(made, "data", "file").write_text("copied\n", encoding="utf-8")
    return made


@pytest.fixture
def create(root: str) -> Iterator[Callable[[dict[str, Any]], AsyncrtError | None]]:
    """Make a sandbox of a config and take it away; the error, if it couldn't be made."""
    with asyncio.Runner() as runner:
        engine = asyncrt.Engine(root)
        runner.run(engine.__aenter__())

        async def attempt(made: dict[str, Any]) -> AsyncrtError | None:
            try:
                spec = sandboxes.spec(made)
                container = await engine.create(
                    _ID, spec=spec, stdout=asyncrt.DEVNULL, stderr=asyncrt.DEVNULL
                )
            except (SpecInvalid, SpecUnsupported, StartFailed) as error:
                return error
            await container.destroy()
            return None

        try:
            yield lambda made: runner.run(attempt(made))
        finally:
            runner.run(engine.close())


def _left(root: str, image: str) -> list[str]:
    found = [*names(root), *sandboxes.mounts_below(image)]
    for path, directories, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{path}/{name}" for name in directories if f"asyncrt-{_ID}." in name]
    return found


@pytest.mark.parametrize("who", [ROOT, MAPPED])
def test_a_config_with_one_thing_changed_makes_a_sandbox_or_one_error_and_leaves_nothing(
    root: str,
    image: str,
    create: Callable[[dict[str, Any]], AsyncrtError | None],
    who: str,
    full: bool,
) -> None:
    base = _possible(_config(image, who), create)
    every = [path for path in places(base) if not _is_spared(path)]

    @settings(
        max_examples=1500 if full else 40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(data=st.data())
    def change_one(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(every))
        made = copy.deepcopy(base)
        like = _like(_at(made, path))
        _at(made, path[:-1])[path[-1]] = data.draw(
            like if data.draw(st.booleans()) else like | ANY_JSON
        )
        error = create(made)
        if error is not None:
            _is_clear(error)
        assert _left(root, image) == []

    change_one()


def _possible(
    made: dict[str, Any], create: Callable[[dict[str, Any]], AsyncrtError | None]
) -> dict[str, Any]:
    """The same without the mounts that some file systems can't have."""
    for kind in ("idmap", "overlay"):
        error = create(made)
        if isinstance(error, StartFailed) and error.what.startswith("mounts["):
            made["mounts"] = [
                each for each in made["mounts"] if kind not in (*each["options"], each["type"])
            ]
    assert create(made) is None, "as it is, it can be made"
    return made


def _is_clear(error: AsyncrtError) -> None:
    """One line, which names the field or the step."""
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    if isinstance(error, StartFailed):
        assert error.errno
        assert not error.what.startswith("launch"), error  # it is no step of a sandbox's
        json.dumps(error.path)
    elif isinstance(error, SpecUnsupported):
        assert error.fields
