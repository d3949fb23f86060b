"""One container: its handle, one file per verb, hooks and streams."""

from __future__ import annotations

from asyncrt.container.callables import HookCalls
from asyncrt.container.console import ConsoleSocket
from asyncrt.container.container import Container
from asyncrt.container.context import Context
from asyncrt.container.create import Creation
from asyncrt.container.create_plan import Supervision, plan_create
from asyncrt.container.exec import Process
from asyncrt.container.following import Following, OutOfMemory
from asyncrt.container.lease import Lease
from asyncrt.container.log import LOG, Log
from asyncrt.container.log_reader import LogLine
from asyncrt.container.passing import PassedFds
from asyncrt.container.processes import ProcessInfo
from asyncrt.container.stats import Stats, measure
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
from asyncrt.container.usage import CgroupStats
from asyncrt.container.watch import Watch

__all__ = [
    "DEVNULL",
    "INHERIT",
    "LOG",
    "PIPE",
    "Attachment",
    "CgroupStats",
    "ConsoleSocket",
    "Container",
    "Context",
    "Creation",
    "Following",
    "HookCalls",
    "Lease",
    "Log",
    "LogLine",
    "OutOfMemory",
    "PassedFds",
    "Process",
    "ProcessInfo",
    "Stats",
    "Stream",
    "StreamTarget",
    "Streams",
    "Supervision",
    "TerminalChoice",
    "Watch",
    "measure",
    "open_streams",
    "plan_create",
]
