"""What an exec'd process is: the container's own process with another program, or a process object.

It joins what the container has, so limits, no_new_privs, scores, labels and capabilities are the
container's where nothing else is said.
"""

from __future__ import annotations

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci import _why, words
from asyncrt.oci._encode import argument_list, encode, env_list, plain_text
from asyncrt.oci.bundle import decode_config, read_config
from asyncrt.oci.config import Capabilities, Process, User
from asyncrt.oci.users import resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

_LARGEST_ID = 2**32 - 2
_BOUNDS = ("bounding", "effective", "permitted")
_KEPT = ("inheritable", "ambient")  # what outlives the exec of another user than root
_OWN = ("args", "terminal", "console_size")  # never the container's


def derive_exec(
    base: Process,
    args: Iterable[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    user: int | str | None = None,
    additional_gids: Iterable[int] = (),
    capabilities: Iterable[str] = (),
    no_new_privs: bool = False,
    apparmor_profile: str | None = None,
    selinux_label: str | None = None,
    nobody: User | None = None,
) -> Process:
    """`base` (the container's own process) with another program, and no terminal.

    `env`, `additional_gids` and `capabilities` are added to the container's; a variable wins over
    its. The others replace the container's. `user` is read as by Spec.command, may block as
    there, and keeps the umask. `nobody` is whom a process without a user is run as.

    Raises SpecInvalid.
    """
    # Through the same door as any config, so that types, NULs and paths are judged once, there.
    made: dict[str, object] = {
        "args": argument_list(args),
        "env": env_list({} if env is None else env),
        "cwd": base.cwd if cwd is None else plain_text(cwd, "process.cwd"),
    }
    who = base.user
    if user is not None:
        umask = base.user.umask if base.user is not None else None
        who = resolve_user(user, umask=umask, json_path="process.user")
    for name, label in (("apparmorProfile", apparmor_profile), ("selinuxLabel", selinux_label)):
        if label is not None:
            made[name] = plain_text(label, f"process.{name}")
    gids = _group_ids(additional_gids)
    if gids:
        who = who or nobody or User(uid=0, gid=0)
        who = msgspec.structs.replace(who, additional_gids=(*(who.additional_gids or ()), *gids))
    if who is not None:
        made["user"] = who
    new = decode_config(encode({"ociVersion": "1.2.0", "process": made})).process
    if new is None:  # pragma: no cover - it was given above
        raise SpecInvalid(json_path="process", why="is required and missing")
    return msgspec.structs.replace(
        base,
        args=new.args,
        env=(*(base.env or ()), *(new.env or ())),
        cwd=new.cwd,
        user=new.user,
        capabilities=_with_capabilities(base.capabilities, capabilities, who or nobody),
        no_new_privileges=no_new_privs or base.no_new_privileges,
        apparmor_profile=base.apparmor_profile
        if apparmor_profile is None
        else new.apparmor_profile,
        selinux_label=base.selinux_label if selinux_label is None else new.selinux_label,
        terminal=None,
        console_size=None,
    )


def complete_exec(base: Process, given: Process) -> Process:
    """`given` with what it leaves out taken from `base`, the container's own process.

    All but the program and the terminal: an object that says nothing about privileges must not have
    more of them than the container. Raises SpecInvalid without a program.
    """
    if given.args is None:
        raise SpecInvalid(json_path="process.args", why="is required and missing")
    left_out = {
        name: getattr(base, name)
        for name in given.__struct_fields__
        if name not in _OWN and getattr(given, name) is None
    }
    user, own = given.user, base.user
    if user is not None and user.umask is None and own is not None:
        left_out["user"] = msgspec.structs.replace(user, umask=own.umask)
    return msgspec.structs.replace(given, **left_out)


def process_of(given: Mapping[str, object] | str | os.PathLike[str]) -> Process:
    """An OCI process object (config.md, "Process"), or the one in a JSON file, which blocks.

    Raises SpecInvalid with the JSON path, as below "process" of a config, and the file.
    """
    if isinstance(given, str) or hasattr(given, "__fspath__"):
        path = plain_text(given, "process")
        return decode_process(read_config(path), path=path)
    return decode_process(encode({"process": given})[len(b'{"process":') : -1])


def decode_process(data: bytes, *, path: str | None = None) -> Process:
    """The process object that `data` is, or SpecInvalid; `path` is the file to name in the error."""
    _why.parse(data, path)  # one value, with nothing behind it
    found = decode_config(b'{"ociVersion":"1.2.0","process":' + data + b"}", path=path).process
    if found is None:
        raise SpecInvalid(json_path="process", why="expected an object, found null", path=path)
    return found


def _group_ids(gids: Iterable[int]) -> list[int]:
    """Strict, as for users: whatever is no id must not become one."""
    at = "process.user.additionalGids"
    if isinstance(gids, str | bytes):
        raise SpecInvalid(json_path=at, why=f"expected a list of group ids, found {gids!r}")
    found = list(gids)
    for each in found:
        given: object = each
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= _LARGEST_ID:
            why = f"{given!r} is no group id, a number from 0 to {_LARGEST_ID}"
            raise SpecInvalid(json_path=at, why=why)
    return found


def _with_capabilities(
    base: Capabilities | None, names: Iterable[str], who: User | None
) -> Capabilities | None:
    """The container's sets and these.

    Root has at its exec what is in the bounding set. Another user would lose it there, unless it is
    ambient (capabilities(7)); only what was asked for by name becomes so, or inheritable
    (CVE-2022-27650).
    """
    added = [names] if isinstance(names, str) else list(names)
    for each in added:
        if each not in words.CAPABILITIES:
            why = f"unknown capability {each!r}; names are like CAP_NET_ADMIN"
            raise SpecInvalid(json_path="process.capabilities", why=why)
    if not added:
        return base
    base = Capabilities() if base is None else base
    sets = (*_BOUNDS, *_KEPT) if who is not None and who.uid != 0 else _BOUNDS
    changed = {}
    for name in sets:
        had: tuple[str, ...] = getattr(base, name) or ()
        changed[name] = (*had, *(each for each in dict.fromkeys(added) if each not in had))
    return msgspec.structs.replace(base, **changed)
