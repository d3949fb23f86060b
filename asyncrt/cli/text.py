"""Text from elsewhere (names, command lines, reasons) made safe for one line of a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with all that could move the cursor, start a new line or not be encoded escaped.

    A command line of a workload is that workload's choice, terminal escapes included.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def size_text(count: int | None) -> str:
    """A number of bytes for people; "" for none."""
    if count is None:
        return ""
    if count < 1024:
        return f"{count}B"
    amount, units = count / 1024, "KMGT"
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.1f}{units[0]}"
