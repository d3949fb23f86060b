"""What the OCI specification demands of a config beyond types: one function per part.

Each raises SpecInvalid for the first fault it finds. What a *platform* can't do isn't looked at
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci._why import child
from asyncrt.oci.check_privileges import (
    check_personality,
    check_process_privileges,
    check_seccomp,
)
from asyncrt.oci.check_resources import check_cgroup
from asyncrt.oci.rlimits import RLIMITS, UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asyncrt.oci.config import Config, Hook, Hooks, Linux, Mount, Process, Rlimit

# config.md: SemVer 2.0.0. Python's \d takes any script's digits, and $ a final newline.
_SEMVER = re.compile(r"(?P<major>[0-9]+)\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?")
_NAMESPACES = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"})


def check(config: Config, *, may_have_nul: bool) -> None:
    """Raise SpecInvalid for the first thing in `config` that the specification forbids.

    `may_have_nul` says that the JSON text contains an escaped NUL somewhere, so that the search for
    one is worth its time.
    """
    _check_version(config.oci_version)
    if may_have_nul:
        for path, text in strings(config, ""):
            if "\0" in text:
                raise SpecInvalid(json_path=path, why="contains a NUL byte")
    if config.process is not None:
        check_process(config.process)
    for index, mount in enumerate(config.mounts or ()):
        _check_mount(mount, f"mounts[{index}]")
    if config.hooks is not None:
        _check_hooks(config.hooks)
    if config.annotations is not None and "" in config.annotations:
        raise SpecInvalid(json_path="annotations", why="has an empty key")
    if config.linux is not None:
        _check_linux(config.linux)


def _check_version(version: str) -> None:
    parts = _SEMVER.fullmatch(version)
    if parts is None:
        why = f"{version!r} is no version like 1.2.0"
    elif parts["major"] != "1":
        why = f"version {version} of the specification isn't supported; supported are 1.x"
    else:
        return
    raise SpecInvalid(json_path="ociVersion", why=why)


def check_process(process: Process, path: str = "process") -> None:
    """The rules for one process; `path` is its place in the config."""
    if process.args is not None:
        if not process.args:
            raise SpecInvalid(json_path=f"{path}.args", why="is empty; name a program to run")
        if not process.args[0]:
            raise SpecInvalid(json_path=f"{path}.args[0]", why="is empty; name a program to run")
    if not process.cwd.startswith("/"):
        raise SpecInvalid(json_path=f"{path}.cwd", why=f"{process.cwd!r} isn't an absolute path")
    _check_env(process.env or (), f"{path}.env")
    _check_rlimits(process.rlimits or (), f"{path}.rlimits")
    check_process_privileges(process, path)


def _check_env(env: Sequence[str], path: str) -> None:
    for index, entry in enumerate(env):
        if entry.find("=") < 1:  # no "=", or nothing before it
            raise SpecInvalid(json_path=f"{path}[{index}]", why=f"{entry!r} isn't NAME=value")


def _check_rlimits(rlimits: Sequence[Rlimit], path: str) -> None:
    seen: set[str] = set()
    for index, each in enumerate(rlimits):
        at = f"{path}[{index}]"
        if each.type not in RLIMITS:
            raise SpecInvalid(json_path=f"{at}.type", why=f"unknown resource limit {each.type!r}")
        if each.type in seen:
            raise SpecInvalid(json_path=f"{at}.type", why=f"{each.type} is given twice")
        seen.add(each.type)
        for name, value in (("soft", each.soft), ("hard", each.hard)):
            if value > UNLIMITED:
                why = f"expected an integer of at most {UNLIMITED}"
                raise SpecInvalid(json_path=f"{at}.{name}", why=why)
        if each.soft > each.hard:
            why = f"{each.soft} is above the hard limit {each.hard}"
            raise SpecInvalid(json_path=f"{at}.soft", why=why)


def _check_mount(mount: Mount, at: str) -> None:
    """config.md, "Mounts": mappings of uids are given along with those of gids."""
    kinds = (("uidMappings", mount.uid_mappings), ("gidMappings", mount.gid_mappings))
    for name, other in (kinds, kinds[::-1]):
        if name[1] and not other[1]:
            raise SpecInvalid(json_path=f"{at}.{other[0]}", why=f"is required with {name[0]}")


def _check_hooks(hooks: Hooks) -> None:
    for field, kind in zip(hooks.__struct_fields__, hooks.__struct_encode_fields__, strict=True):
        found: tuple[Hook, ...] | None = getattr(hooks, field)
        for index, hook in enumerate(found or ()):
            at = f"hooks.{kind}[{index}]"
            if not hook.path.startswith("/"):
                why = f"{hook.path!r} isn't an absolute path"
                raise SpecInvalid(json_path=f"{at}.path", why=why)
            _check_env(hook.env or (), f"{at}.env")


def _check_linux(linux: Linux) -> None:
    seen: set[str] = set()
    for index, each in enumerate(linux.namespaces or ()):
        at = f"linux.namespaces[{index}]"
        if each.type not in _NAMESPACES:
            raise SpecInvalid(json_path=f"{at}.type", why=f"unknown namespace {each.type!r}")
        if each.type in seen:
            raise SpecInvalid(json_path=f"{at}.type", why=f"{each.type} is given twice")
        seen.add(each.type)
        if each.path and not each.path.startswith("/"):
            raise SpecInvalid(json_path=f"{at}.path", why=f"{each.path!r} isn't an absolute path")
    if linux.seccomp is not None:
        check_seccomp(linux.seccomp)
    if linux.personality is not None:
        check_personality(linux.personality)
    check_cgroup(linux)


def strings(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every string below `value` with its JSON path; keys of maps count as strings too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        for field, name in names:
            yield from strings(getattr(value, field), child(path, name))
    elif isinstance(value, tuple | list):
        for index, each in enumerate(value):
            yield from strings(each, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield child(path, key), key
            yield from strings(each, child(path, key))
