"""What an exec'd process is: the container's own process with another program.

It joins what the container has, so limits, no_new_privs, scores and labels are the container's.
"""

from __future__ import annotations

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci._encode import argument_list, encode, env_list, plain_text
from asyncrt.oci.bundle import decode_config
from asyncrt.oci.users import resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from asyncrt.oci.config import Process


def derive_exec(
    base: Process,
    args: Iterable[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    user: int | str | None = None,
) -> Process:
    """`base` (the container's own process) with another program, and no terminal.

    `env` is added to the container's environment and wins over it; `cwd` and `user` replace the
    container's. `user` is read as by Spec.command, may block as there, and keeps the umask.

    Raises SpecInvalid.
    """
    # Through the same door as any config, so that types, NULs and paths are judged once, there.
    made: dict[str, object] = {
        "args": argument_list(args),
        "env": env_list({} if env is None else env),
        "cwd": base.cwd if cwd is None else plain_text(cwd, "process.cwd"),
    }
    if user is not None:
        umask = base.user.umask if base.user is not None else None
        made["user"] = resolve_user(user, umask=umask, json_path="process.user")
    new = decode_config(encode({"ociVersion": "1.2.0", "process": made})).process
    if new is None:  # pragma: no cover - it was given above
        raise SpecInvalid(json_path="process", why="is required and missing")
    return msgspec.structs.replace(
        base,
        args=new.args,
        env=(*(base.env or ()), *(new.env or ())),
        cwd=new.cwd,
        user=base.user if user is None else new.user,
        terminal=None,
        console_size=None,
    )
