"""User names, for people."""

from __future__ import annotations

import pwd


def user_name(uid: int) -> str:
    """The name of a uid, or its number where it has none. May block on a network's user database."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
