"""Why something is no JSON, in the same words wherever it is read: what, at which line and column.

The decoders that are fast count bytes, and Python's own has better words: a text that failed may cost
a second, slower look.
"""

from __future__ import annotations

import json
import re

_BYTE = re.compile(r" ?\(byte (?P<offset>\d+)\)$")


def position(before: str) -> str:
    """Where the text ends that comes before: line and column, both from 1."""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def not_utf8(error: UnicodeDecodeError, data: bytes) -> str:
    """Of bytes that are no text at all."""
    where = position(data[: error.start].decode())
    return f"not UTF-8: byte 0x{data[error.start]:02x} at {where}"


def malformed(error: Exception, data: bytes) -> str:
    """Of bytes that a decoder refused with that error."""
    try:
        data.decode()
    except UnicodeDecodeError as found:
        return not_utf8(found, data)
    if not data.strip():
        return "is empty"
    if isinstance(error, RecursionError):
        return "malformed JSON: nested too deeply"
    try:
        json.loads(data)
    except json.JSONDecodeError as found:
        why = f"{found.msg} at line {found.lineno}, column {found.colno}"
    except (ValueError, RecursionError):
        why = _from_byte(str(error), data)
    else:  # Python takes more than JSON has: NaN, halves of surrogate pairs
        why = _from_byte(str(error), data)
    return f"malformed JSON: {why}"


def _from_byte(text: str, data: bytes) -> str:
    """The decoder's own words, with its byte offset turned into line and column."""
    at = _BYTE.search(text)
    if at is None:
        return text[:1].lower() + text[1:]
    before = data[: int(at["offset"])].decode(errors="replace")
    return f"{text[: at.start()].removeprefix('JSON is malformed: ')} at {position(before)}"
