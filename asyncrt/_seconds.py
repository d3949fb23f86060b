"""Lengths of time as callers give them: checked where they come in, in words that name the argument."""

from __future__ import annotations

from asyncrt.errors import SpecInvalid


def check_seconds(given: object, name: str) -> None:
    """Raise SpecInvalid unless it is a number of seconds, 0 or more, or None."""
    if given is None:
        return
    refuse_no_number(given, name)
    if not given >= 0:  # type: ignore[operator]  # a number, as was just made sure of
        raise SpecInvalid(json_path="", why=f"{name} is {given:g}, must be 0 or more seconds")


def refuse_no_number(given: object, name: str) -> None:
    """Raise SpecInvalid for what is no number."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise SpecInvalid(
            json_path="", why=f"{name} is {given!r:.40}, must be a number of seconds, 0 or more"
        )
