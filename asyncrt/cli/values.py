"""What is typed as an option's value, and what it means: seconds, sizes, times, variables."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from asyncrt.platforms import Overlay


class Seconds(click.ParamType[float]):
    """A length of time; `zero`: nothing at all is one too."""

    name = "SECONDS"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """As click's."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not self._zero):
            least = "0 or more" if self._zero else "more than 0"
            self.fail(f"{value!r} is no number of seconds, {least}", param, ctx)
        return seconds


class Gid(click.ParamType[int]):
    """The number of a group."""

    name = "GID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """As click's."""
        # Strict, unlike int(): no sign, space, underscore, other digits or leading zero.
        text = str(value)
        if not re.fullmatch("0|[1-9][0-9]{0,9}", text) or int(text) > 2**32 - 2:
            self.fail(f"{text!r} is no group id, a number from 0 to {2**32 - 2}", param, ctx)
        return int(text)


class Pair(click.ParamType[tuple[str, str]]):
    """A variable of an environment, its name and its value; or an annotation to be given."""

    def __init__(self, name: str = "NAME=VALUE") -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """As click's."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} isn't {self.name}", param, ctx)
        return name, rest


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Moment(click.ParamType["datetime | timedelta"]):
    """A time, or how long ago."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """As click's."""
        text = str(value)
        if text and re.fullmatch(r"([0-9.]+[dhms])+", text):
            try:
                parts = re.findall(r"([0-9.]+)([dhms])", text)
                return timedelta(seconds=sum(float(each) * _UNITS[unit] for each, unit in parts))
            except (ValueError, OverflowError):
                pass
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC)  # without a zone it is local time
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time: write 10m, 1h30m or 2026-01-31T12:00:00Z", param, ctx)


class Annotation(click.ParamType["tuple[str, str | None]"]):
    """An annotation, with its value or with any (None)."""

    name = "KEY[=VALUE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        """As click's."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, rest = str(value).partition("=")
        if not key:
            self.fail(f"{value!r} has no key; write KEY or KEY=VALUE", param, ctx)
        return key, rest if equals else None


class Keys(click.ParamType[bytes]):
    """What is typed to leave a terminal, as the bytes that come."""

    name = "KEYS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """As click's."""
        if isinstance(value, bytes):
            return value
        from asyncrt.cli import detach_keys

        try:
            return detach_keys.parse(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class LogOption(click.ParamType[tuple[str, Any]]):
    """An option of a log by the name that container engines know, as one of asyncrt.Log."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """As click's."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, _, rest = str(value).partition("=")
        if name == "max-size":
            if rest in {"-1", "unlimited"}:
                return "max_bytes", None
            digits = rest.rstrip("bkmgBKMG")
            unit = rest[len(digits) :].lower()
            if digits.isascii() and digits.isdecimal() and int(digits) and unit in _SIZES:
                return "max_bytes", int(digits) * _SIZES[unit]
        elif name == "max-file":
            if rest.isascii() and rest.isdecimal() and int(rest):
                return "files", int(rest)
        elif name == "timestamps":
            if rest in {"true", "false"}:
                return "timestamps", rest == "true"
        else:
            return self.fail(f"{name!r} is none of max-size, max-file, timestamps", param, ctx)
        return self.fail(f"{rest!r} is no value for {name}", param, ctx)


class Layer(click.ParamType["Overlay"]):
    """Where a container is to write, as an Overlay."""

    name = "KIND[,size=SIZE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Overlay:
        """As click's."""
        from asyncrt.errors import SpecInvalid
        from asyncrt.platforms import Overlay

        if isinstance(value, Overlay):
            return value
        kind, comma, rest = str(value).partition(",")
        kind, equals, path = kind.partition("=")
        name, _, size = rest.partition("=")
        try:
            if kind == "memory" and not equals and name in {"", "size"}:
                return Overlay.memory(size if comma else None)
            if kind == "disk" and name in {"", "size"}:
                return Overlay.disk(path if equals else None, size if comma else None)
            if kind == "upper" and path and not comma:
                return Overlay.upper(path)
        except SpecInvalid as error:
            return self.fail(error.why, param, ctx)
        return self.fail(
            f"{value!r} is none of memory, disk, disk=DIR, with or without ,size=64M, and upper=DIR",
            param,
            ctx,
        )


class Size(click.ParamType[str]):
    """So many bytes, as Spec.command takes them."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click's."""
        from asyncrt.errors import SpecInvalid
        from asyncrt.oci.sandbox_config import parse_size

        try:
            parse_size(str(value), "")
        except SpecInvalid as error:
            self.fail(error.why, param, ctx)
        return str(value)


class Processors(click.ParamType[float]):
    """How many CPUs' time."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """As click's."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{value!r} is no number of CPUs above 0", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A number in a range; what is none is told to be no number, not to be no range."""

    name = "whole number"
