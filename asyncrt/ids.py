"""Container ids: what one may be, and how an abbreviated one is resolved.

Comparison is by plain strings, never by globs or patterns, so `*` in a text matches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType

from asyncrt.errors import AmbiguousId, InvalidId

if TYPE_CHECKING:
    from collections.abc import Iterable

ContainerId = NewType("ContainerId", str)

MAX_LENGTH = 200
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")


def is_id(text: str) -> bool:
    """Whether `text` can be an id: 1 to 200 of ASCII letters, digits and `_+.-`, not `.` or `..`."""
    return 0 < len(text) <= MAX_LENGTH and _ALPHABET.issuperset(text) and text not in {".", ".."}


def check_id(text: str) -> ContainerId:
    """`text` as an id, or InvalidId that says what is wrong with it."""
    given: object = text
    if not isinstance(given, str):
        why = f"it is of type {type(given).__name__}, must be a string"
        raise InvalidId(container_id=str(given), why=why)
    if is_id(text):
        return ContainerId(text)
    if not text:
        why = "it is empty"
    elif len(text) > MAX_LENGTH:
        why = f"it has {len(text)} characters"
    elif text in {".", ".."}:
        why = "it names a directory"
    else:
        bad = next(c for c in text if c not in _ALPHABET)
        why = f"it contains {bad!r}"
    raise InvalidId(container_id=text, why=why)


def check_prefix(text: str) -> str:
    """`text` if it can be an id or the beginning of one, or InvalidId that says what is wrong with it."""
    return text if text in (".", "..") else check_id(text)


def match_prefix(ids: Iterable[ContainerId], prefix: str) -> ContainerId | None:
    """The one id that `prefix` abbreviates; an exact match always wins; None if there is none.

    The empty prefix matches nothing. Raises AmbiguousId when several ids fit.
    """
    if not prefix:
        return None
    found = []
    for each in ids:
        if each == prefix:
            return each
        if each.startswith(prefix):
            found.append(each)
    if len(found) > 1:
        raise AmbiguousId(prefix=prefix, candidates=sorted(found))
    return found[0] if found else None
