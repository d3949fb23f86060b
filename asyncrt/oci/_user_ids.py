"""An id as people write it: strict on purpose, as a lenient parse that ended as uid 0 was a CVE."""

from __future__ import annotations

_DIGITS = frozenset("0123456789")
_MAX_ID = 2**32 - 2


class UnknownUserError(Exception):
    """Why a user or group can't be resolved."""


def id_of(text: str) -> int | None:
    """`text` as an id, None if it isn't a number; no sign, space, other digits or leading zero.

    Raises UnknownUserError for a number that no id can be.
    """
    if not text or not _DIGITS.issuperset(text):
        return None
    # A length check first: int() of a million digits takes long, of over 4300 fails.
    if len(text) > 10 or (text[0] == "0" and text != "0") or int(text) > _MAX_ID:
        raise UnknownUserError(f"an id is a number from 0 to {_MAX_ID}")
    return int(text)
