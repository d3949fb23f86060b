"""From the bytes of a config.json to a checked Config, and from a bundle's path to the bytes.

A bundle comes from somebody else: its config.json may be missing, a FIFO nobody writes to, gigabytes
long or no JSON at all. Each is one SpecInvalid with the file's path.
"""

from __future__ import annotations

import os
import stat

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci import _why
from asyncrt.oci.check import check
from asyncrt.oci.config import Config

CONFIG_NAME = "config.json"
MAX_BYTES = 16 * 1024 * 1024

_decoder = msgspec.json.Decoder(Config)


def decode_config(data: bytes, *, path: str | None = None) -> Config:
    """The Config that `data` is, or SpecInvalid; `path` is the file to name in the error."""
    try:
        # The decoder skips the strings of unknown properties unread, and a config that is passed on
        # (to hooks, to another runtime) has to be text as a whole.
        data.decode()
    except UnicodeDecodeError as error:
        raise _why.not_utf8(error, data, path) from None
    if not data.strip():
        raise SpecInvalid(json_path="", why="is empty", path=path)
    try:
        config = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _why.invalid_value(error, data, path) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise _why.malformed(error, data, path) from None
    try:
        check(config, may_have_nul=b"\\u0000" in data)
    except SpecInvalid as error:
        if path is None:
            raise
        raise SpecInvalid(json_path=error.json_path, why=error.why, path=path) from None
    return config


def read_config(path: str) -> bytes:
    """The bytes of a config.json: a regular file of at most 16 MiB, or SpecInvalid. Blocks."""
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise SpecInvalid(json_path="", why="isn't a regular file", path=path)
        data = _read_at_most(fd, MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise SpecInvalid(json_path="", why=f"is over {MAX_BYTES // 2**20} MiB", path=path)
    return data


def _read_at_most(fd: int, limit: int) -> bytes:
    parts = []
    while limit > 0 and (part := os.read(fd, min(limit, 1024 * 1024))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _unreadable(path: str, error: OSError | ValueError) -> SpecInvalid:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if isinstance(error, NotADirectoryError):
        why += "; a bundle is the directory that has the config.json: give that"
    elif isinstance(error, FileNotFoundError):
        why += "; a bundle is a directory with a config.json, which 'asyncrt spec' writes"
    return SpecInvalid(json_path="", why=why, path=path)
