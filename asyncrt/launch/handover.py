"""What init and the process above it say to each other over init's watch socket.

Init does the launch itself, since what it touches is given back at its exec, and hands what is left
to keep over to its parent, which stays small by touching little: no JSON, fixed positions.
"""

from __future__ import annotations

import array
import socket
import struct

from asyncrt.launch import frames

# What init says, one byte each after the handover; FAILED is followed by the failure as JSON.
STARTED = b"G"
FAILED = b"F"

# Role, durable, deadline in seconds (negative: none), instance. Three descriptors come with it:
# the creator's connection, the container's directory, the control socket.
_FORMAT = struct.Struct("=c?d32s")


def send(
    watch: socket.socket,
    role: bytes,
    fds: list[int],
    *,
    durable: bool,
    deadline: float | None,
    instance: str,
) -> None:
    """Init's side: hand over; the descriptors are the parent's as well from here on."""
    packed = _FORMAT.pack(role, durable, -1.0 if deadline is None else deadline, instance.encode())
    frames.send(watch, packed, fds)


def receive(watch: socket.socket) -> tuple[bytes, bool, float, bytes, array.array[int]] | None:
    """The parent's side: role, durable, deadline, instance, descriptors; None if init ended first."""
    data, ancillary, _, _ = watch.recvmsg(_FORMAT.size, 64, socket.MSG_CMSG_CLOEXEC)
    if len(data) < _FORMAT.size:
        return None
    fds = array.array("i")
    for _, _, payload in ancillary:
        fds.frombytes(payload)
    role, durable, deadline, instance = _FORMAT.unpack(data)
    return role, durable, deadline, instance, fds
