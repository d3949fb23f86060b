"""Every error asyncrt raises, under one root.

An error carries fields, not only a string: the message is built from them, they survive pickling,
and the standard class people already catch (FileNotFoundError, TimeoutError, …) is mixed in.
"""

from __future__ import annotations

import errno as errnos
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


# What to do about a machine at its limits, which the kernel's own words leave out.
_ADVICE = {
    errnos.ENOSPC: "make room there and try again",
    errnos.EDQUOT: "make room there and try again",
    errnos.EIO: "its disk fails: see 'dmesg'",
    errnos.EMFILE: "raise this process's limit of open files ('ulimit -n') or use fewer",
    errnos.ENFILE: "raise the system's limit of open files ('sysctl fs.file-max')",
    errnos.ENOMEM: "free memory and try again",
    errnos.EAGAIN: "raise the limit of processes ('ulimit -u') or end some",
}


def _words(errno: int) -> str:
    """What an errno means and, where that isn't plain, what to do about it."""
    advice = _ADVICE.get(errno)
    return os.strerror(errno) + (f"; {advice}" if advice else "")


def _rebuild(cls: Callable[..., AsyncrtError], fields: dict[str, Any]) -> AsyncrtError:
    return cls(**fields)


class AsyncrtError(Exception):
    """Root of all errors of asyncrt."""

    _fields: tuple[str, ...] = ()

    def _set(self, message: str, **fields: object) -> None:
        self._fields = tuple(fields)
        for name, value in fields.items():
            setattr(self, name, value)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {name: getattr(self, name) for name in self._fields})


class InvalidId(AsyncrtError, ValueError):
    """A text that can't be a container's id."""

    def __init__(self, *, container_id: str, why: str) -> None:
        shown = container_id if len(container_id) <= 60 else container_id[:57] + "..."
        self.container_id = container_id
        self.why = why
        self._set(
            f"invalid container id {shown!r}: {why}; use letters, digits and _+.- (at most 200)",
            container_id=container_id,
            why=why,
        )


class ContainerNotFound(AsyncrtError, FileNotFoundError):
    """No container of that id (or not that instance any more) under the root."""

    def __init__(self, *, container_id: str, root: str, instance: str | None = None) -> None:
        self.container_id = container_id
        self.root = root
        self.instance = instance
        gone = " (this instance was destroyed)" if instance else ""
        self._set(
            f"no container {container_id!r} in {root}{gone}; 'asyncrt list' shows what is there",
            container_id=container_id,
            root=root,
            instance=instance,
        )


class ContainerExists(AsyncrtError, FileExistsError):
    """The id is taken; the container that has it is untouched."""

    def __init__(self, *, container_id: str, root: str) -> None:
        self.container_id = container_id
        self.root = root
        self._set(
            f"container {container_id!r} already exists in {root}; "
            "choose another id or delete it first",
            container_id=container_id,
            root=root,
        )


class AmbiguousId(AsyncrtError, LookupError):
    """An abbreviated id that fits several containers."""

    def __init__(self, *, prefix: str, candidates: Iterable[str]) -> None:
        self.prefix = prefix
        self.candidates = tuple(candidates)
        shown = ", ".join(self.candidates[:8]) + (", ..." if len(self.candidates) > 8 else "")
        self._set(
            f"{prefix!r} fits {len(self.candidates)} containers ({shown}); give more of the id",
            prefix=prefix,
            candidates=self.candidates,
        )


# Operations that no verb is called like.
_WORDS = {"events": "follow", "stats": "measure", "ps": "list the processes of", "exec": "exec in"}


class InvalidTransition(AsyncrtError):
    """The operation isn't allowed in the container's status. Nothing was changed."""

    def __init__(
        self, *, container_id: str, operation: str, status: str, allowed: Iterable[str]
    ) -> None:
        self.container_id = container_id
        self.operation = operation
        self.status = status
        self.allowed = tuple(allowed)
        advice = ""
        if (operation, status) == ("start", "stopped"):
            advice = "; a container runs once: delete it and create it again"
        self._set(
            f"can't {_WORDS.get(operation, operation)} container {container_id!r}: it is {status}, "
            f"and must be {' or '.join(self.allowed)}{advice}",
            container_id=container_id,
            operation=operation,
            status=status,
            allowed=self.allowed,
        )


class LockTimeout(AsyncrtError, TimeoutError):
    """A FileLock wasn't acquired in time. The lock isn't held and nobody's place is lost."""

    def __init__(self, *, path: str, timeout: float, holder: int | None = None) -> None:
        self.path = path
        self.timeout = timeout
        self.holder = holder
        by = f", held by pid {holder}" if holder else ""
        self._set(
            f"lock {path} not acquired in {timeout:g} s{by}",
            path=path,
            timeout=timeout,
            holder=holder,
        )


class ContainerBusy(AsyncrtError, TimeoutError):
    """Another process kept the container's lock for the whole time allowed."""

    def __init__(
        self,
        *,
        container_id: str,
        operation: str,
        timeout: float,
        holder: int | None = None,
        status: str | None = None,
    ) -> None:
        self.container_id = container_id
        self.operation = operation
        self.timeout = timeout
        self.holder = holder
        self.status = status
        by = f" by pid {holder}" if holder else ""
        now = f" (status {status})" if status else ""
        self._set(
            f"can't {operation} container {container_id!r}: locked{by} for over {timeout:g} s{now}; "
            "try again, or with a longer timeout",
            container_id=container_id,
            operation=operation,
            timeout=timeout,
            holder=holder,
            status=status,
        )


class StateCorrupted(AsyncrtError):
    """A file of the container's can't be read as what it should be. Others aren't affected."""

    def __init__(self, *, path: str, why: str) -> None:
        self.path = path
        self.why = why
        self._set(
            f"{path} is broken: {why}; 'asyncrt delete --force' removes the container",
            path=path,
            why=why,
        )


class SchemaTooNew(AsyncrtError):
    """A record written by a newer asyncrt than this one understands."""

    def __init__(self, *, path: str, schema: int, supported: int) -> None:
        self.path = path
        self.schema = schema
        self.supported = supported
        self._set(
            f"{path} has schema {schema}, this asyncrt knows up to {supported}; use a newer asyncrt",
            path=path,
            schema=schema,
            supported=supported,
        )


class RootUnusable(AsyncrtError, PermissionError):
    """The root directory can't be trusted or used (a link, somebody else's, not a directory)."""

    def __init__(self, *, path: str, why: str) -> None:
        self.path = path
        self.why = why
        self._set(
            f"can't use root directory {path}: {why}; give another with --root or $ASYNCRT_ROOT",
            path=path,
            why=why,
        )


class StorageFailed(AsyncrtError, OSError):
    """A file below the root couldn't be read or written (disk full, input/output error, …).

    The old state stands.
    """

    def __init__(self, *, path: str, errno: int) -> None:
        self.path = path
        self.errno = errno
        self._set(f"{path}: {_words(errno)}", path=path, errno=errno)


class NoThread(AsyncrtError, BlockingIOError):
    """No thread can be started for work that may block. What was asked for isn't done, or undone."""

    def __init__(self, *, why: str) -> None:
        self.why = why
        self.errno = errnos.EAGAIN
        self._set(f"no thread can be started ({why}): {_words(errnos.EAGAIN)}", why=why)


class SpecInvalid(AsyncrtError, ValueError):
    """A bundle or spec that isn't well formed; `json_path` says where."""

    def __init__(self, *, json_path: str, why: str, path: str | None = None) -> None:
        self.json_path = json_path
        self.why = why
        self.path = path
        said = ": ".join(each for each in (path, json_path, why) if each)
        self._set(said, json_path=json_path, why=why, path=path)


class SpecUnsupported(AsyncrtError):
    """A well-formed spec that the platform can't honour; every such field is named.

    `reasons` has, by field, why it can't be honoured here although it could be elsewhere. With a
    `container_id` it is a container that lives whose limits were to be changed.
    """

    def __init__(
        self,
        *,
        platform: str,
        fields: Iterable[str],
        reasons: Mapping[str, str] | None = None,
        container_id: str | None = None,
    ) -> None:
        self.platform = platform
        self.container_id = container_id
        self.fields = tuple(fields)
        self.reasons = dict(reasons or {})
        why = {each: f"{each} ({reason})" for each, reason in self.reasons.items()}
        listed = ", ".join(why.get(each, each) for each in self.fields)
        said = f"the {platform} platform can't honour: {listed}"
        advice = "take these out of the spec or choose another platform"
        if container_id is not None:
            said = f"can't update container {container_id!r}: not to be had here: {listed}"
            advice = f"leave {'that' if len(self.fields) == 1 else 'these'} out; nothing is changed"
        elif platform == "linux" and "linux.namespaces" not in self.fields:
            advice = "take these out of the spec"  # host has nothing that linux hasn't
        elif platform == "host" and all(".user." in each for each in self.fields):
            advice = "only root may become another user"
        self._set(
            f"{said}; {advice}",
            platform=platform,
            fields=self.fields,
            reasons=self.reasons,
            container_id=container_id,
        )


class SandboxUnresponsive(AsyncrtError, TimeoutError):
    """The supervisor (or init at its gate) gave no answer. destroy can still remove all of it."""

    def __init__(self, *, container_id: str, operation: str, why: str) -> None:
        self.container_id = container_id
        self.operation = operation
        self.why = why
        # A create that fails has rolled itself back: there is nothing to remove.
        advice = "try again" if operation == "create" else "'asyncrt delete --force' removes it"
        self._set(
            f"can't {operation} container {container_id!r}: {why}; {advice}",
            container_id=container_id,
            operation=operation,
            why=why,
        )


class NoOutput(AsyncrtError):
    """There is nothing to read or attach to: no log, no terminal, or it was given to somebody."""

    def __init__(self, *, container_id: str, operation: str, why: str) -> None:
        self.container_id = container_id
        self.operation = operation
        self.why = why
        self._set(
            f"can't {operation} container {container_id!r}: {why}",
            container_id=container_id,
            operation=operation,
            why=why,
        )


class ExportFailed(AsyncrtError):
    """The layer that a container writes to couldn't be exported, or not to its end.

    `errno` is the system's reason, 0 where it is none of its; `why` says what it is about then.
    """

    def __init__(self, *, container_id: str, why: str, errno: int = 0) -> None:
        self.container_id = container_id
        self.why = why
        self.errno = errno
        reason = f"{why}: {_words(errno)}" if errno else why
        self._set(
            f"can't export container {container_id!r}: {reason}",
            container_id=container_id,
            why=why,
            errno=errno,
        )


class StartFailed(AsyncrtError):
    """A program couldn't be started: which step (`what`), on which `path`, with which `errno`.

    `why` says more, where something is known: where it was looked for, what to do.
    """

    def __init__(
        self, *, container_id: str, what: str, path: str, errno: int, why: str = ""
    ) -> None:
        self.container_id = container_id
        self.what = what
        self.path = path
        self.errno = errno
        self.why = why
        where = f"{what} {path!r}" if path else what
        more = f"; {why}" if why else ""
        self._set(
            f"container {container_id!r}: {where}: {_words(errno)}{more}",
            container_id=container_id,
            what=what,
            path=path,
            errno=errno,
            why=why,
        )


class UpdateFailed(AsyncrtError):
    """A container's limits couldn't be changed, and are what they were.

    `json_path` is the limit that was refused, `path` the file of its cgroup, `errno` what the kernel
    said (0: it wasn't asked, and `why` says more). `left` are limits that couldn't be put back.
    """

    def __init__(
        self,
        *,
        container_id: str,
        json_path: str,
        path: str = "",
        errno: int = 0,
        why: str = "",
        left: Iterable[str] = (),
    ) -> None:
        self.container_id = container_id
        self.json_path = json_path
        self.path = path
        self.errno = errno
        self.why = why
        self.left = tuple(left)
        where = f"{json_path}: {path}" if path else json_path
        said = ": ".join(each for each in (_words(errno) if errno else "", why) if each)
        kept = ", ".join(self.left)
        stays = f"all is put back but {kept}" if kept else "nothing is changed"
        self._set(
            f"can't update container {container_id!r}: {where}: {said}; {stays}",
            container_id=container_id,
            json_path=json_path,
            path=path,
            errno=errno,
            why=why,
            left=self.left,
        )


class HookFailed(AsyncrtError):
    """A hook before poststop failed; the container was stopped and destroyed."""

    def __init__(self, *, container_id: str, kind: str, path: str, why: str) -> None:
        self.container_id = container_id
        self.kind = kind
        self.path = path
        self.why = why
        self._set(
            f"container {container_id!r}: {kind} hook {path}: {why}",
            container_id=container_id,
            kind=kind,
            path=path,
            why=why,
        )


class DestroyFailed(AsyncrtError):
    """Something of the container couldn't be stopped or removed; its record stays for a retry."""

    def __init__(self, *, container_id: str, left: Iterable[str]) -> None:
        self.container_id = container_id
        self.left = tuple(left)
        self._set(
            f"container {container_id!r} isn't fully destroyed, left: {', '.join(self.left)}; "
            "delete it again",
            container_id=container_id,
            left=self.left,
        )


class ProcessNotFound(AsyncrtError, ProcessLookupError):
    """A pid or process group that doesn't belong to the container, or has gone."""

    def __init__(self, *, container_id: str, pid: int) -> None:
        self.container_id = container_id
        self.pid = pid
        self._set(
            f"container {container_id!r} has no process or group {pid}; 'asyncrt ps' shows its own",
            container_id=container_id,
            pid=pid,
        )


class SignalRefused(AsyncrtError, PermissionError):
    """The kernel lets this user signal nothing there: it has become another user's, by sudo say."""

    def __init__(self, *, container_id: str, pid: int | None = None) -> None:
        self.container_id = container_id
        self.pid = pid
        what = "a process" if pid is None else f"process {pid}"
        self._set(
            f"{what} of container {container_id!r} is another user's and may not be signalled; "
            "do it as that user or as root",
            container_id=container_id,
            pid=pid,
        )


class InvalidPosition(AsyncrtError, ValueError):
    """A text that is no place in the root's log of events."""

    def __init__(self, *, position: str, why: str) -> None:
        shown = position if len(position) <= 60 else position[:57] + "..."
        self.position = position
        self.why = why
        self._set(
            f"invalid position {shown!r}: {why}; take one that an event carries, or 'oldest'",
            position=position,
            why=why,
        )


class EventsLost(AsyncrtError, LookupError):
    """What followed a position isn't in the log of events any more; `oldest` is where it begins."""

    def __init__(self, *, position: str, oldest: str) -> None:
        self.position = position
        self.oldest = oldest
        self._set(
            f"the events that followed position {position} are gone, the oldest that are kept follow "
            f"{oldest}; go on from there, after a look at what there is now",
            position=position,
            oldest=oldest,
        )
