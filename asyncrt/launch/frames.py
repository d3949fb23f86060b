"""How an engine and a supervisor talk: length-prefixed JSON over UNIX stream sockets.

A frame is four bytes of length (big endian), then a JSON object. A frame that brings descriptors
says how many in "fds"; the kernel hands them over no later than the frame's first byte
(unix(7), SCM_RIGHTS), in order, so they are claimed from a queue per connection. Every message
carries "v", the protocol version; a supervisor answers with its own. Both sides use this module.
"""

from __future__ import annotations

import _socket
import array
import errno
import os

from asyncrt import _cjson, _durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

VERSION = 1
MAX_FRAME = 16 << 20

# What a request to a fork server asks for: an init below a supervisor, or one whose caller supervises
# by itself; who runs a hook; who clears a directory.
SUPERVISED = b"S"
ONE_SHOT = b"O"
HOOK = b"H"
CLEAR = b"C"

_MAX_FDS = 253  # with one message (SCM_MAX_FD of the kernel)
_FD_SIZE = array.array("i").itemsize
_SPACE = _socket.CMSG_SPACE(_MAX_FDS * _FD_SIZE)

# The C half of the socket module: the Python half, with its enumerations, costs a fresh child pages.
NOSIGNAL = _socket.MSG_NOSIGNAL
DONTWAIT = _socket.MSG_DONTWAIT
_CLOEXEC = _socket.MSG_CMSG_CLOEXEC
_CTRUNC = _socket.MSG_CTRUNC
_SOCKET = _socket.SOL_SOCKET
_RIGHTS = _socket.SCM_RIGHTS
_PEERPIDFD = 77  # SO_PEERPIDFD, asm-generic/socket.h


class BadFrame(Exception):  # noqa: N818 - says what came, the connection is closed for it
    """What came isn't a frame of this protocol."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame. Lone surrogates (undecodable file names) survive as JSON escapes."""
    payload = _cjson.dumps({"v": VERSION, **message}, separators=(",", ":")).encode()
    return raw(payload)


def raw(payload: bytes) -> bytes:
    """One frame around what is JSON already. Raises OSError (E2BIG) beyond MAX_FRAME bytes."""
    if len(payload) > MAX_FRAME:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return len(payload).to_bytes(4, "big") + payload


# Said by a creator once its record is saved. Its bytes are compared whole, so that the process it
# is said to needs no decoder for it.
ACKNOWLEDGE = {"op": "acknowledge"}
ACKNOWLEDGEMENT = encode(ACKNOWLEDGE)


class Decoder:
    """Collects received bytes and descriptors into messages."""

    __slots__ = ("_data", "_fds")

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: Sequence[int]) -> None:
        """Take what was received; the descriptors are the decoder's until a message claims them."""
        self._data += data
        self._fds.extend(fds)

    def pop(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next whole message with its descriptors (now the caller's), or None."""
        data = self._data
        if self._fds and not data:
            raise BadFrame("descriptors that no message announced")  # they come with its bytes
        if len(data) < 4:
            return None
        size = int.from_bytes(data[:4], "big")
        if size > MAX_FRAME:
            raise BadFrame(f"a frame of {size} bytes")
        if len(data) < 4 + size:
            return None
        try:
            message = _cjson.loads(bytes(data[4 : 4 + size]))
        except (ValueError, RecursionError) as error:
            raise BadFrame(f"no JSON: {error}") from error
        del data[: 4 + size]
        if not isinstance(message, dict):
            raise BadFrame("no JSON object")
        count = message.get("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise BadFrame("descriptors announced that didn't come")
        taken, self._fds = self._fds[:count], self._fds[count:]
        return message, taken

    def close(self) -> None:
        """Close the descriptors that no message claimed."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []


def receive(sock: _socket.socket, size: int = 65536) -> tuple[bytes, list[int]]:
    """Bytes and descriptors from the socket; empty bytes mean end-of-file. Raises as recvmsg does."""
    data, ancillary, flags, _ = sock.recvmsg(size, _SPACE, _CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == _SOCKET and kind == _RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _FD_SIZE])
    if flags & _CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(
            errno.EMFILE, os.strerror(errno.EMFILE)
        )  # there is room for all that can come
    return data, list(fds)


def send(sock: _socket.socket, frame: bytes | memoryview, fds: Sequence[int] = ()) -> int:
    """Send as much as goes at once; returns how much. The descriptors go with the first byte."""
    if not fds:
        return sock.send(frame, NOSIGNAL)
    rights = [(_SOCKET, _RIGHTS, array.array("i", fds))]
    return sock.sendmsg([frame], rights, NOSIGNAL)


def peer_uid(sock: _socket.socket) -> int:
    """The uid of who connected (unix(7), SO_PEERCRED)."""
    raw = sock.getsockopt(_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(raw[4:8], "little")


def is_from_inside(sock: _socket.socket) -> bool:
    """Whether who connected may be in a pid namespace below ours, as what runs in a sandbox is.

    One that has gone since may be.
    """
    pidfd = -1
    try:
        pidfd = sock.getsockopt(_SOCKET, _PEERPIDFD)
    except OSError:  # before Linux 6.5; a pid might be another's by now
        raw = sock.getsockopt(_SOCKET, _socket.SO_PEERCRED, 12)
        path = f"/proc/{int.from_bytes(raw[:4], 'little')}/status"
    else:
        path = f"/proc/self/fdinfo/{pidfd}"
    try:
        facts = _durable.read(path)
    except OSError:
        return True
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    # One pid for each namespace from ours down (proc(5), NSpid).
    return len(facts.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()) != 1


def receive_message(sock: _socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Wait for one whole message on a blocking socket. Raises EOFError when the peer closes first."""
    decoder = Decoder()
    while True:
        found = decoder.pop()
        if found is not None:
            return found
        data, fds = receive(sock)
        if not data:
            decoder.close()
            raise EOFError
        decoder.feed(data, fds)
