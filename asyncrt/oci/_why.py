"""Turns what the decoder says into a JSON path and a sentence for people.

The decoder is fast and terse: it names types by Python's words, forgets the keys of maps, and
counts bytes instead of lines. A config that failed may cost a second, slower look.
"""

from __future__ import annotations

import json
import re

import msgspec

from asyncrt import _json_errors
from asyncrt.errors import SpecInvalid

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$")
_TYPE = re.compile(r"Expected `(?P<expected>.*)`, got `(?P<found>.*)`$")
_RANGE = re.compile(r"Expected `(?P<expected>.*)` (?P<sign>>=|<=) (?P<bound>-?\d+)$")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def child(path: str, key: str) -> str:
    """The JSON path of a property; a key that isn't a plain word stands quoted in brackets."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key


def _words(types: str) -> str:
    # Everything optional may be null as well; saying so each time hides what is wanted.
    names = [each for each in types.split(" | ") if each != "null"] or ["null"]
    return " or ".join(_WORDS.get(each, each) for each in names)


def _find_keys(path: str, data: bytes) -> str:
    """`path` with each `[...]` (any key of a map) replaced by the key whose value isn't a string.

    The maps of a config hold strings, or raw JSON that can't be wrong.
    """
    head, sep, rest = path.partition("[...]")
    if not sep or rest:
        return path
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return path  # the decoder stopped at its error, Python's meets what comes after
    for name in head.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return path
    return next((child(head, key) for key, each in value.items() if type(each) is not str), path)


def invalid_value(error: msgspec.ValidationError, data: bytes, file: str | None) -> SpecInvalid:
    """SpecInvalid for JSON that is well formed but isn't what it should be."""
    text = str(error)
    at = _AT.search(text)
    path = at["path"] if at else ""
    text = text[: at.start()] if at else text
    if missing := _MISSING.match(text):
        path = child(path, missing["name"])
        why = "is required and missing"
    elif wrong := _TYPE.match(text):
        why = f"expected {_words(wrong['expected'])}, found {_words(wrong['found'])}"
    elif bound := _RANGE.match(text):
        side = "at least" if bound["sign"] == ">=" else "at most"
        why = f"expected {_words(bound['expected'])} of {side} {bound['bound']}"
    else:
        why = text[:1].lower() + text[1:]
    return SpecInvalid(json_path=_find_keys(path, data), why=why, path=file)


def not_utf8(error: UnicodeDecodeError, data: bytes, file: str | None) -> SpecInvalid:
    """SpecInvalid for bytes that are no text at all."""
    return SpecInvalid(json_path="", why=_json_errors.not_utf8(error, data), path=file)


def malformed(error: Exception, data: bytes, file: str | None) -> SpecInvalid:
    """SpecInvalid for text that is no JSON, with line and column (both from 1)."""
    return SpecInvalid(json_path="", why=_json_errors.malformed(error, data), path=file)


def parse(data: bytes, file: str | None) -> object:
    """The one JSON value that `data` is, or SpecInvalid naming the file."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise malformed(error, data, file) from None
