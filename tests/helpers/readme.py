"""The README's own commands and examples, so that what is tested is what people read.

A fenced block is named by a comment right above it: `<!-- command: test -->`. As a script:
`python3 readme.py test` prints that block. Standard library only, as CI runs it before any install.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(
    r"^<!--\s*(?P<kind>\w+):\s*(?P<name>[\w-]+)\s*-->[ \t]*\n+"
    r"(?P<fence>`{3,})[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)

_FENCE = re.compile(
    r"(?:^<!--[ \t]*(?P<mark>\w+:[ \t]*[\w-]+)[ \t]*-->[ \t]*\n+)?"
    r"^(?P<fence>`{3,})(?P<language>\w*)[ \t]*\n(?P<text>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


class Fence(NamedTuple):
    """A fenced block: where it is, its language, its mark (`command: run`, or ""), its text."""

    line: int
    language: str
    mark: str
    text: str


def fences(source: str | None = None) -> list[Fence]:
    """All fenced blocks, in their order."""
    source = README.read_text(encoding="utf-8") if source is None else source
    return [
        Fence(
            source.count("\n", 0, match.start("fence")) + 1,
            match["language"],
            " ".join((match["mark"] or "").split()),
            match["text"],
        )
        for match in _FENCE.finditer(source)
    ]


def block(name: str, *, kind: str = "command", text: str | None = None) -> str:
    """The text of the README's block of that name. LookupError unless there is exactly one."""
    source = README.read_text(encoding="utf-8") if text is None else text
    found = [
        match["text"]
        for match in _BLOCK.finditer(source)
        if (match["kind"], match["name"]) == (kind, name)
    ]
    if len(found) != 1:
        raise LookupError(f"README.md has {len(found)} blocks marked '<!-- {kind}: {name} -->'")
    return found[0]


if __name__ == "__main__":
    sys.stdout.write(block(sys.argv[1]))
