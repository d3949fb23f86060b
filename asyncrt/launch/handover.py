"""What init and the process above it say to each other over init's watch socket.

Init does the launch itself, since what it touches is given back at its exec. Its parent, which may
live for months, sleeps meanwhile and goes on sleeping until something happens to the container: what
init tells it waits in the socket until then, the descriptors included where the kernel lets them.
"""

from __future__ import annotations

import _socket
import array
import struct

from asyncrt.launch import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Handed = tuple[bytes, list[tuple[int, int, bytes]]]
    Unpacked = tuple[
        bytes,
        bool,
        float,
        float,
        bytes,
        int,
        list[int],
        list[int],
        list[int],
        tuple[int, int] | None,
    ]

# After the handover, one byte each: the creator's record is saved; init goes to execute its program,
# followed by the time as clock.stamp gives it; it couldn't.
ACKNOWLEDGED = b"A"
STARTED = b"G"
FAILED = b"F"

# Said to a gofer, in one packet with a descriptor: write the layer there.
EXPORT = b"E"

NO_SCORE = -2000  # none of its own

# Role, durable, deadline and lease in seconds (negative: none), instance, init's pid as the parent
# sees it, its OOM score as it counts in its sandbox, the gofer's pid or 0, numbers of cgroups and of namespaces. Descriptors come with it: the container's directory,
# the creator's connection and, unless a one-shot's, the control socket; those of the workload's
# streams that the supervisor is at the other end of; the cgroups that it needs; the namespaces that
# an exec is to join; last the socket to the gofer.
_FORMAT = struct.Struct("=c?dd32sihiBB")
_SIZE = _FORMAT.size
MOST_FDS = 28
_ANCILLARY = 128  # bytes: so many descriptors
_FLAGS = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT


def send(
    watch: _socket.socket,
    role: bytes,
    fds: list[int],
    *,
    durable: bool,
    deadline: float | None,
    lease: float | None,
    instance: str,
    pid: int,
    score: int | None = None,
    cgroups: Sequence[int] = (),
    namespaces: Sequence[int] = (),
    gofer: tuple[int, int] | None = None,
) -> None:
    """Init's side: hand over; the descriptors are the parent's as well from here on.

    `gofer` is its pid and the socket to it.
    """
    gofer_pid, *sockets = gofer or (0,)
    times = (-1.0 if each is None else each for each in (deadline, lease))
    counts = len(cgroups), len(namespaces)
    counted = NO_SCORE if score is None else score
    packed = _FORMAT.pack(
        role, durable, *times, instance.encode(), pid, counted, gofer_pid, *counts
    )
    frames.send(watch, packed, [*fds, *cgroups, *namespaces, *sockets])


def take(watch: _socket.socket) -> Handed | None:
    """The parent's side: what was handed over, to be unpacked when needed; None: init said nothing."""
    try:
        data, ancillary, _, _ = watch.recvmsg(_SIZE, _ANCILLARY, _FLAGS)
    except OSError:
        return None
    return (data, ancillary) if len(data) == _SIZE else None


def pid_of(handed: Handed) -> int:
    """Init's, as its parent sees it."""
    pid: int = _FORMAT.unpack(handed[0])[5]
    return pid


def has_gofer(handed: Handed) -> bool:
    """Whether somebody holds a layer for it."""
    return bool(_FORMAT.unpack(handed[0])[7])


def unpack(handed: Handed) -> Unpacked:
    """Role, durable, deadline, lease, instance, score, descriptors, cgroups, namespaces, gofer.

    The last is its pid and the socket to it, if there is one.
    """
    data, ancillary = handed
    fds = array.array("i")
    for _, _, payload in ancillary:
        fds.frombytes(payload)
    *first, instance, _, score, pid, cgroups, namespaces = _FORMAT.unpack(data)
    found = list(fds)
    gofer = (pid, found.pop()) if pid else None
    middle = len(found) - cgroups - namespaces
    end = len(found) - namespaces
    return (
        *(*first, instance, score),
        *(found[:middle], found[middle:end], found[end:], gofer),
    )
