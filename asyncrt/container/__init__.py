"""One container: its handle, one file per verb, hooks and streams."""

from __future__ import annotations

from asyncrt.container.callables import HookCalls
from asyncrt.container.console import ConsoleSocket
from asyncrt.container.container import Container
from asyncrt.container.context import Context
from asyncrt.container.create import Creation, Supervision
from asyncrt.container.exec import Process
from asyncrt.container.lease import Lease
from asyncrt.container.log import LOG, Log
from asyncrt.container.log_reader import LogLine
from asyncrt.container.passing import PassedFds
from asyncrt.container.processes import ProcessInfo
from asyncrt.container.stats import Stats
from asyncrt.container.streams import (
    DEVNULL,
    INHERIT,
    PIPE,
    Stream,
    Streams,
    StreamTarget,
    open_streams,
)
from asyncrt.container.terminal import Attachment, TerminalChoice

__all__ = [
    "DEVNULL",
    "INHERIT",
    "LOG",
    "PIPE",
    "Attachment",
    "ConsoleSocket",
    "Container",
    "Context",
    "Creation",
    "HookCalls",
    "Lease",
    "Log",
    "LogLine",
    "PassedFds",
    "Process",
    "ProcessInfo",
    "Stats",
    "Stream",
    "StreamTarget",
    "Streams",
    "Supervision",
    "TerminalChoice",
    "open_streams",
]
