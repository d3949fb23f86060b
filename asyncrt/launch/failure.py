"""How a step of a launch fails: which step, on which path, with which errno."""

from __future__ import annotations

import contextlib
import errno as errno_of

from asyncrt import _cjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    class FailureReport(TypedDict):
        """A failure as it crosses processes."""

        what: str
        path: str
        errno: int


class Failure(Exception):  # noqa: N818 - an outcome that is reported, not a programming error
    """A step that couldn't be done; becomes StartFailed or HookFailed on the engine's side."""

    def __init__(self, what: str, path: str, errno: int, *, hook: str = "") -> None:
        super().__init__(what, path, errno)
        self.what = what
        self.path = path
        self.errno = errno
        self.hook = hook  # why a hook failed, where it was one

    def report(self) -> dict[str, str | int]:
        """As plain data for json."""
        return {"what": self.what, "path": self.path, "errno": self.errno, "hook": self.hook}


def reported(said: bytes) -> Failure:
    """The failure that a process reported as JSON; silence means that it was killed."""
    try:
        report = _cjson.loads(said)
        return Failure(report["what"], report["path"], report["errno"], hook=report["hook"])
    except (ValueError, KeyError, TypeError):
        return Failure("init", "killed before its program ran", errno_of.ECHILD)


@contextlib.contextmanager
def step(what: str, path: str) -> Iterator[None]:
    """One step of a launch: the errno that ends it becomes its Failure."""
    try:
        yield
    except OSError as error:
        raise Failure(what, path, error.errno or errno_of.EIO) from error
    except (ValueError, OverflowError) as error:
        raise Failure(what, path, errno_of.EINVAL) from error
