"""Errors in the words of the command line: the option that was given, not where a config has it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt.cli.errors import CommandFailedError
from asyncrt.errors import SpecInvalid, SpecUnsupported, StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = {
    "cgroup": "--cgroup",
    "overlay": "--overlay",
    "process.apparmorProfile": "--apparmor",
    "process.capabilities": "--cap",
    "process.cwd": "--cwd",
    "process.env": "--env",
    "process.noNewPrivileges": "--no-new-privs",
    "process.selinuxLabel": "--process-label",
    "process.user": "--user",
    "linux.resources.memory": "--memory",
    "linux.resources.pids": "--pids",
    "linux.resources.cpu": "--cpu",
}
_PLAIN = (
    "a plain program has no root of its own; use 'asyncrt do --overlay', or a --bundle with a mount "
    "namespace"
)
_OF_SANDBOXES = "annotations["


@contextlib.contextmanager
def named(*, by_file: bool = False) -> Iterator[None]:
    """Have an option blamed for its value, unless a file has said it (`by_file`)."""
    try:
        yield
    except SpecInvalid as error:
        option = _option(error.json_path)
        if by_file or error.path is not None or option is None:
            raise
        raise CommandFailedError(f"invalid value for '{option}': {error.why}") from error
    except SpecUnsupported as error:
        options = dict.fromkeys(map(_option, error.fields))
        if by_file or None in options:
            raise
        why = "; ".join(dict.fromkeys(error.reasons.get(each, "") for each in error.fields))
        if error.platform == "host" and set(options) == {"--overlay"}:
            why = _PLAIN
        elif error.platform == "host" and set(options) == {"--user"}:
            why = "only root may become another user"
        elif any(each.startswith("linux.resources") for each in error.fields):
            why += "; 'asyncrt doctor' says what is missing"
        elif not why:
            why = f"it isn't to be had on the {error.platform} platform, where this runs"
        raise CommandFailedError(f"{', '.join(map(str, options))}: {why}") from error
    except StartFailed as error:
        if by_file or error.what != "process.cwd":
            raise
        why = os.strerror(error.errno)
        raise CommandFailedError(f"invalid value for '--cwd': {error.path!r}: {why}") from error


def _option(json_path: str) -> str | None:
    """The option that says what a config has at that place; None for a place that has none."""
    place = json_path.partition("[")[0]
    while place not in _OPTIONS and "." in place:
        place = place.rpartition(".")[0]
    return _OPTIONS.get(place)


@contextlib.contextmanager
def placed(option: str) -> Iterator[None]:
    """Have the option that puts a container into a sandbox blamed for what its annotation can't do."""
    try:
        yield
    except SpecInvalid as error:
        if not error.json_path.startswith(_OF_SANDBOXES):
            raise
        where = f"{error.path}: {error.json_path}: " if error.path else ""
        raise CommandFailedError(f"{option}: {where}{error.why}") from error
    except SpecUnsupported as error:
        if not all(each.startswith(_OF_SANDBOXES) for each in error.fields):
            raise
        why = "; ".join(error.reasons.get(each, each) for each in error.fields)
        if error.platform == "host":
            why += "; a --bundle with namespaces ('asyncrt spec') does without"
        raise CommandFailedError(f"{option}: the {error.platform} platform can't: {why}") from error
