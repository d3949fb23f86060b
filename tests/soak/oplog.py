"""The log of a soak: what each process was about to do, and what became of it, in one order.

A line is written with one O_APPEND write, before the deed and after it, so that whoever is killed
has said what it was about. It is what a run is understood by when something is wrong.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asyncrt import clock

if TYPE_CHECKING:
    from asyncrt import RecoveryReport

Line = dict[str, Any]


class OpLog:
    """For appending; `who` stands in each line."""

    def __init__(self, path: str, who: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._who = who

    def write(self, what: str, **fields: object) -> None:
        """One line, now."""
        line = {"at": clock.stamp(), "who": self._who, "what": what, **fields}
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def write_findings(log: OpLog, op: int, report: RecoveryReport) -> None:
    """What was mended, or failed to be."""
    for each in report.findings:
        log.write("found", op=op, kind=each.kind, outcome=each.outcome, id=each.id, path=each.path)


def read(path: str) -> list[Line]:
    """All lines so far."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def moment(line: Line) -> datetime:
    """When it was written."""
    return datetime.fromisoformat(line["at"])


def about(lines: list[Line], words: list[str]) -> list[str]:
    """What was done to any of these ids or instances, readable; what was refused at once is left out."""
    ours = {
        _key(line) for line in lines if line.get("id") in words or line.get("instance") in words
    }
    targets = {_key(line) for line in lines if line["what"] in {"target", "killing", "ended"}}
    made = {_key(line) for line in lines if line.get("verb") in {"sandbox", "create", "delete"}}
    for line in lines:
        if line["what"] == "end" and "Exists" in line["outcome"]:
            made.discard(_key(line))
    wanted = ours & (targets | made)
    return [_text(line) for line in lines if _key(line) in wanted]


def _key(line: Line) -> tuple[str, int]:
    return line["who"], line.get("op", -1)


def _text(line: Line) -> str:
    rest = {name: value for name, value in line.items() if name not in {"at", "who", "what", "op"}}
    said = " ".join(str(value) for value in rest.values())
    return f"{line['at'][11:-1]} {line['who']:>9} {line.get('op', ''):>5} {line['what']:7} {said}"
