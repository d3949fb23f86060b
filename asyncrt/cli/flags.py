"""Errors in the words of the command line: the option that was given, not where a config has it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from asyncrt.cli.errors import CommandFailedError
from asyncrt.errors import SpecInvalid, SpecUnsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = {"process.user": "--user", "process.cwd": "--cwd", "process.env": "--env"}
_OF_SANDBOXES = "annotations["


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Have an option blamed for its value, where no file has said it."""
    try:
        yield
    except SpecInvalid as error:
        option = _OPTIONS.get(error.json_path.partition("[")[0])
        if error.path is not None or option is None:
            raise
        raise CommandFailedError(f"invalid value for '{option}': {error.why}") from error


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
