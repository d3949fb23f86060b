"""The public surface by introspection: classes, their methods, the awaitables among them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import asyncrt


def public_classes() -> Iterator[type[Any]]:
    """Every public class that isn't an error."""
    for name in asyncrt.__all__:
        value = getattr(asyncrt, name)
        if inspect.isclass(value) and not issubclass(value, BaseException):
            yield value


def public_errors() -> Iterator[type[asyncrt.AsyncrtError]]:
    for name in asyncrt.__all__:
        value = getattr(asyncrt, name)
        if inspect.isclass(value) and issubclass(value, asyncrt.AsyncrtError):
            yield value


def public_members(owner: type[Any]) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that asyncrt itself defines on the class."""
    for base in owner.__mro__:
        if not base.__module__.startswith("asyncrt"):
            continue
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if not name.startswith("_") and (
                inspect.isroutine(plain) or isinstance(plain, property)
            ):
                yield f"{owner.__name__}.{name}", plain


def awaitables() -> Iterator[tuple[str, Any]]:
    """Every public coroutine function and asynchronous context manager: what can be cancelled."""
    for owner in public_classes():
        for name, value in public_members(owner):
            plain = inspect.unwrap(value) if callable(value) else value
            if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
                yield name, value
