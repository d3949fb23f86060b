"""Headers of a tar archive: ustar blocks, with pax records for what these can't hold (pax(1), POSIX).

Written by hand, since the standard library's module would cost its importer more memory than all of
the rest, and reads names and owners of the host's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Records = list[tuple[bytes, bytes]]

BLOCK = 512
END = bytes(2 * BLOCK)

FILE = b"0"
LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
_PAX = b"x"

_MAGIC = b"ustar\x0000"
_LONGEST_NAME = 100
_NAMED = b"PaxHeaders/"
_SPARSE = b"GNUSparseFile.0/"


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime_ns: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    records: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """All that stands before a member's content; `records` go into its pax header as they are."""
    found: Records = list(records)
    if not any(key == b"GNU.sparse.name" for key, _ in found):
        _add_text(found, b"path", name)
    _add_text(found, b"linkpath", link)
    seconds, rest = divmod(mtime_ns, 10**9)
    if rest or not 0 <= seconds < 8**11:
        found.append((b"mtime", _moment(mtime_ns)))
        seconds = min(max(seconds, 0), 8**11 - 1)
    fields = b"".join(
        (
            name[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            _octal(mode, 8),
            _number(found, b"uid", uid, 8),
            _number(found, b"gid", gid, 8),
            _number(found, b"size", size, 12),
            _octal(seconds, 12),
            b" " * 8,  # what the checksum counts in its own place
            kind,
            link[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0"),
            _MAGIC,
            bytes(64),  # names of user and group: ids mean the same elsewhere, names don't
            _octal(device[0], 8),
            _octal(device[1], 8),
        )
    )
    return _pax(name, found) + _sealed(fields)


def padding(size: int) -> bytes:
    """What fills the last block of a content of that size."""
    return bytes(-size % BLOCK)


def sparse_map(extents: Sequence[int]) -> bytes:
    """The map of a file with holes (GNU tar, "PAX Format, Version 1.0"): offsets and sizes in turn.

    It stands before the content, which is of these extents only.
    """
    text = b"".join(b"%d\n" % each for each in (len(extents) // 2, *extents))
    return text + padding(len(text))


def sparse_records(name: bytes, size: int) -> tuple[bytes, Records]:
    """What a file with holes is called to who doesn't know of such, and what tells the others."""
    return _SPARSE + name[-80:], [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % size),
    ]


def xattr_key(name: str) -> bytes:
    """The record that an extended attribute is kept in; a "=" would end the record's key."""
    raw = name.encode(errors="surrogateescape")
    return b"SCHILY.xattr." + raw.replace(b"%", b"%25").replace(b"=", b"%3D")


def _add_text(records: Records, key: bytes, text: bytes) -> None:
    if len(text) <= _LONGEST_NAME and text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError:
        # A Linux name is any bytes; without this it would have to be UTF-8.
        if (b"hdrcharset", b"BINARY") not in records:
            records.insert(0, (b"hdrcharset", b"BINARY"))
    records.append((key, text))


def _moment(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return b"%s%d.%09d" % (sign, seconds, rest)


def _number(records: Records, key: bytes, value: int, width: int) -> bytes:
    if value < 8 ** (width - 1):
        return _octal(value, width)
    records.append((key, b"%d" % value))
    return _octal(0, width)


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _pax(name: bytes, records: Records) -> bytes:
    if not records:
        return b""
    body = b"".join(_record(key, value) for key, value in records)
    fields = b"".join(
        (
            (_NAMED + name[-80:]).ljust(_LONGEST_NAME, b"\0"),
            _octal(0o644, 8),
            _octal(0, 8),
            _octal(0, 8),
            _octal(len(body), 12),
            _octal(0, 12),
            b" " * 8,
            _PAX,
            bytes(_LONGEST_NAME),
            _MAGIC,
            bytes(64),
            _octal(0, 8),
            _octal(0, 8),
        )
    )
    return _sealed(fields) + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value`, the length counting its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _sealed(fields: bytes) -> bytes:
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:].ljust(BLOCK - 156, b"\0")
