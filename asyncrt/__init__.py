"""asyncrt: an asyncio container-lifecycle engine for Linux.

    async with asyncrt.Engine() as engine:
        spec = asyncrt.Spec.command(["echo", "hello"])
        done = await engine.run("hello", spec=spec, stdout=asyncrt.PIPE)

Names are resolved when first used (PEP 562), so that the processes outside the event loop, which
import from this package, load nothing they don't need.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.container import (
        DEVNULL,
        INHERIT,
        LOG,
        PIPE,
        Attachment,
        CgroupStats,
        ConsoleSocket,
        Container,
        Lease,
        Log,
        LogLine,
        OutOfMemory,
        Process,
        ProcessInfo,
        Stats,
        Stream,
        StreamTarget,
        Watch,
    )
    from asyncrt.engine import Engine, Finding, Pool, RecoveryReport, RunResult, Sandbox
    from asyncrt.errors import (
        AmbiguousId,
        AsyncrtError,
        ContainerBusy,
        ContainerExists,
        ContainerNotFound,
        DestroyFailed,
        EventsLost,
        ExportFailed,
        HookFailed,
        InvalidId,
        InvalidPosition,
        InvalidTransition,
        LockTimeout,
        NoOutput,
        NoThread,
        ProcessNotFound,
        RootUnusable,
        SandboxUnresponsive,
        SchemaTooNew,
        SignalRefused,
        SpecInvalid,
        SpecUnsupported,
        StartFailed,
        StateCorrupted,
        StorageFailed,
        UpdateFailed,
    )
    from asyncrt.ids import ContainerId
    from asyncrt.locking import FileLock
    from asyncrt.oci import Hook, Spec
    from asyncrt.platforms import Overlay
    from asyncrt.state import Event, ExitResult, StateFile, View
    from asyncrt.status import Status

_WHERE = {
    "asyncrt.container": (
        "DEVNULL INHERIT LOG PIPE Attachment CgroupStats ConsoleSocket Container Lease Log LogLine OutOfMemory Process "
        "ProcessInfo Stats Stream StreamTarget Watch"
    ),
    "asyncrt.engine": "Engine Finding Pool RecoveryReport RunResult Sandbox",
    "asyncrt.errors": (
        "AmbiguousId AsyncrtError ContainerBusy ContainerExists ContainerNotFound DestroyFailed "
        "EventsLost ExportFailed HookFailed InvalidId InvalidPosition InvalidTransition LockTimeout "
        "NoOutput NoThread ProcessNotFound RootUnusable SandboxUnresponsive SchemaTooNew SignalRefused "
        "SpecInvalid SpecUnsupported StartFailed StateCorrupted StorageFailed UpdateFailed"
    ),
    "asyncrt.ids": "ContainerId",
    "asyncrt.locking": "FileLock",
    "asyncrt.oci": "Hook Spec",
    "asyncrt.platforms": "Overlay",
    "asyncrt.state": "Event ExitResult StateFile View",
    "asyncrt.status": "Status",
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names.split()}

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "INHERIT",
    "LOG",
    "PIPE",
    "AmbiguousId",
    "AsyncrtError",
    "Attachment",
    "CgroupStats",
    "ConsoleSocket",
    "Container",
    "ContainerBusy",
    "ContainerExists",
    "ContainerId",
    "ContainerNotFound",
    "DestroyFailed",
    "Engine",
    "Event",
    "EventsLost",
    "ExitResult",
    "ExportFailed",
    "FileLock",
    "Finding",
    "Hook",
    "HookFailed",
    "InvalidId",
    "InvalidPosition",
    "InvalidTransition",
    "Lease",
    "LockTimeout",
    "Log",
    "LogLine",
    "NoOutput",
    "NoThread",
    "OutOfMemory",
    "Overlay",
    "Pool",
    "Process",
    "ProcessInfo",
    "ProcessNotFound",
    "RecoveryReport",
    "RootUnusable",
    "RunResult",
    "Sandbox",
    "SandboxUnresponsive",
    "SchemaTooNew",
    "SignalRefused",
    "Spec",
    "SpecInvalid",
    "SpecUnsupported",
    "StartFailed",
    "StateCorrupted",
    "StateFile",
    "Stats",
    "Status",
    "StorageFailed",
    "Stream",
    "StreamTarget",
    "UpdateFailed",
    "View",
    "Watch",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'asyncrt' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
