"""The event loop's side of the processes outside it: fork server, supervisors, gates, pidfds."""

from __future__ import annotations

from asyncrt.sandbox.channel import Channel, ChannelClosed
from asyncrt.sandbox.fork_server import ForkServer
from asyncrt.sandbox.gate import GateBusy, NoGate, open_gate
from asyncrt.sandbox.launcher import Launched, Launcher, LaunchFailed
from asyncrt.sandbox.pidfd import PidWatch, wait_gone, watch_child

__all__ = [
    "Channel",
    "ChannelClosed",
    "ForkServer",
    "GateBusy",
    "LaunchFailed",
    "Launched",
    "Launcher",
    "NoGate",
    "PidWatch",
    "open_gate",
    "wait_gone",
    "watch_child",
]
