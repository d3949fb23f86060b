"""Home directories of users. A look-up may block on a network's user database, so each is kept."""

from __future__ import annotations

import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.oci.config import Process

_known: dict[int, str] = {}


def home_of(uid: int) -> str:
    """The home directory of a user, "/" if there is none. Blocks the first time."""
    home = _known.get(uid)
    if home is None:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except (KeyError, OSError):
            return "/"
        _known[uid] = home = home or "/"
    return home


def is_known(process: Process | None) -> bool:
    """Whether a process can be planned without a look-up: it has a HOME, or its user's is known."""
    if process is None or any(each.startswith("HOME=") for each in process.env or ()):
        return True
    return (os.geteuid() if process.user is None else process.user.uid) in _known
