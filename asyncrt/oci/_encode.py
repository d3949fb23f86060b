"""From Python's values to the JSON of a config. What JSON can't say is refused here, by its path.

Types that JSON does have are left alone: the decoder judges them, with its own words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci.check import strings
from asyncrt.oci.config import Hook, Hooks
from asyncrt.oci.rlimits import UNLIMITED

_HOOK_KINDS: tuple[str, ...] = Hooks.__struct_encode_fields__


def encode(config: Mapping[str, object]) -> bytes:
    """`config` as JSON, or SpecInvalid at the text that isn't Unicode or the number JSON lacks."""
    try:
        return msgspec.json.encode(config)
    except UnicodeEncodeError:
        for path, text in strings(config, ""):
            if not _is_unicode(text):
                why = f"{text!a} can't be written as UTF-8"
                raise SpecInvalid(json_path=path, why=why) from None
        raise
    except (TypeError, OverflowError, ValueError) as error:
        raise SpecInvalid(json_path="", why=str(error)) from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_text(value: str | os.PathLike[str], json_path: str) -> str:
    """A string or a path as a string. Bytes are refused: JSON would hold them as base64."""
    text: object = value if isinstance(value, str) else None
    if isinstance(value, os.PathLike):
        text = os.fspath(value)
    if isinstance(text, str):
        return text
    raise SpecInvalid(json_path=json_path, why=f"expected a string, found {value!r}")


def argument_list(args: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The arguments of a program as strings."""
    given: object = args  # whatever its type says: a str is an Iterable of str too
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        why = f"expected a list of strings, found {given!r}"
        raise SpecInvalid(json_path="process.args", why=why)
    return [plain_text(each, f"process.args[{index}]") for index, each in enumerate(args)]


def env_list(env: Mapping[str, str]) -> list[str]:
    """An environment as NAME=value; a name with "=" in it would become another's value."""
    given: object = env
    if not isinstance(given, Mapping):
        raise SpecInvalid(json_path="process.env", why=f"expected a mapping, found {given!r}")
    for index, (name, value) in enumerate(given.items()):
        if not isinstance(name, str) or not isinstance(value, str):
            why = f"expected a string for {name!r}, found {value!r}"
        elif not name or "=" in name:
            why = f"{name!r} can't be the name of a variable"
        else:
            continue
        raise SpecInvalid(json_path=f"process.env[{index}]", why=why)
    return [f"{name}={value}" for name, value in env.items()]


def rlimit_list(rlimits: Mapping[str, tuple[int, int]]) -> list[dict[str, object]]:
    """Limits by name as OCI's list; the prefix RLIMIT_ may be left out, -1 is unlimited."""
    found: list[dict[str, object]] = []
    for index, (name, pair) in enumerate(rlimits.items()):
        try:
            soft, hard = (UNLIMITED if each == -1 else each for each in pair)
        except (TypeError, ValueError):
            why = f"expected (soft, hard) for {name!r}, found {pair!r}"
            raise SpecInvalid(json_path=f"process.rlimits[{index}]", why=why) from None
        full = f"RLIMIT_{str(name).removeprefix('RLIMIT_')}"
        found.append({"type": full, "soft": soft, "hard": hard})
    return found


def hook_lists(hooks: Mapping[str, Iterable[Hook]]) -> dict[str, list[Hook]]:
    """Hooks by kind; a kind that doesn't exist is refused instead of never run."""
    for kind in hooks:
        if kind not in _HOOK_KINDS:
            why = f"{kind!r} is no kind of hook; there are {', '.join(_HOOK_KINDS)}"
            raise SpecInvalid(json_path="hooks", why=why)
    return {kind: list(each) for kind, each in hooks.items()}
