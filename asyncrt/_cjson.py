"""The C half of the json module, for processes that were just forked.

What `json` puts around it brings regular expressions and enumerations along: two hundred pages that
each fork has to map, and each exec and exit to take down again. What is written and understood is the
same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from json import dumps, loads
    from typing import Any, NoReturn
else:
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:  # another Python's
        from json import dumps, loads
    else:

        class _Options:
            """What json.loads goes by if nothing else is asked for."""

            strict = True
            object_hook = None
            object_pairs_hook = None
            parse_float = float
            parse_int = int
            parse_constant = float  # NaN, Infinity, -Infinity

        def _refuse(value: Any) -> NoReturn:
            raise TypeError(f"{type(value).__name__} is no JSON")

        def _encoder(item: str, key: str) -> Any:
            # Nothing is looked for that leads back to itself, indented, sorted or left out.
            style = None, key, item, False, False, True
            return make_encoder(None, _refuse, encode_basestring_ascii, *style)

        _scan = make_scanner(_Options)
        _encode, _encode_compact = _encoder(", ", ": "), _encoder(",", ":")

        def loads(text: str | bytes) -> Any:
            """As json.loads. Raises ValueError."""
            if isinstance(text, bytes):
                text = text.decode()
            text = text.strip(" \t\n\r")
            try:
                value, end = _scan(text, 0)
            except StopIteration as error:
                raise ValueError(f"no value at {error.value}") from None
            except SystemError:
                # Before Python 3.13 it looks for the error to raise in the other half, which isn't there.
                raise ValueError("malformed JSON") from None
            if end != len(text):
                raise ValueError(f"something after the value, at {end}")
            return value

        def dumps(value: Any, separators: tuple[str, str] | None = None) -> str:
            """As json.dumps, with its own separators or, if any are given, without spaces."""
            return "".join((_encode if separators is None else _encode_compact)(value, 0))


__all__ = ["dumps", "loads"]
