"""The score of a sweep: how many points there are, how many were covered, how many are clean."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sweep.sweep import Result

_COVERED = 0.95


class Score:
    """Sums of results, of this sweep and of others beside it."""

    def __init__(self) -> None:
        self._points = self._covered = self._clean = 0
        self._roles: Counter[str] = Counter()
        self._missed: list[str] = []
        self._failed: list[str] = []
        self._slowest = 0.0
        self._broken = False

    def note(self, result: Result) -> None:
        """Count one result."""
        self._points += 1
        self._covered += result.hit
        self._clean += not result.faults
        self._roles[role_of(result)] += 1
        self._slowest = max(self._slowest, result.seconds)
        if not result.hit:
            self._missed.append(_title(result))
        if result.faults:
            self._failed.append(_title(result))

    @staticmethod
    def line(result: Result) -> str:
        """What is to be said of a result that isn't as it should be."""
        said = "; ".join(map(_in_one_line, result.faults)) or "never came to it"
        return f"{_title(result)}: {said}"

    def as_data(self) -> dict[str, Any]:
        """For another process to add."""
        return {
            "points": self._points,
            "covered": self._covered,
            "clean": self._clean,
            "roles": self._roles,
            "missed": self._missed,
            "failed": self._failed,
            "slowest": self._slowest,
        }

    def add(self, data: dict[str, Any] | None) -> None:
        """Add another sweep's score; None: it broke off."""
        if data is None:
            self._broken = True
            return
        self._points += data["points"]
        self._covered += data["covered"]
        self._clean += data["clean"]
        self._roles.update(data["roles"])
        self._missed += data["missed"]
        self._failed += data["failed"]
        self._slowest = max(self._slowest, data["slowest"])

    @property
    def status(self) -> int:
        """0 when at least 95 % were covered and all are clean."""
        fine = not self._broken and self._clean == self._points > 0
        return 0 if fine and self._covered >= _COVERED * self._points else 1

    def __str__(self) -> str:
        roles = ", ".join(f"{role} {count}" for role, count in self._roles.most_common())
        lines = [
            f"points {self._points}, covered {self._covered}, clean {self._clean}",
            f"slowest: {self._slowest:.1f} s",
            f"by role: {roles}",
            *(f"not covered: {each}" for each in self._missed),
            *(f"not clean: {each}" for each in self._failed),
        ]
        if self._broken:
            lines.append("a part of the sweep broke off")
        return "\n".join(lines)


_NAMES = {
    "asyncrt:oneshot": "one-shot",
    "asyncrt:hook": "hook runner",
    "asyncrt:spare": "init",
    "asyncrt:gate": "init",
    "asyncrt:gofer": "gofer",
}


_BESIDE = {"asyncrt:spare", "asyncrt:gate", "asyncrt:gofer"}


def role_of(result: Result) -> str:
    """The role of the process that a point is of."""
    point = result.point
    if result.verb.startswith("runc"):
        return "runc"
    kind = point.who.partition(" ")[0]
    if kind == "exec" and point.comm in _BESIDE:
        kind = "init"  # of one more container of a sandbox
    if kind in {"init", "supervisor"}:
        usual = "one-shot" if kind == "supervisor" and "caller" in result.verb else kind
        return _NAMES.get(point.comm, usual) if kind == "init" else usual
    return {"forkserver": "fork server", "exec": "exec'd child", "hook": "hook"}.get(kind, kind)


def _in_one_line(text: str) -> str:
    """The end of it, where a traceback says what it is about."""
    return " | ".join(text.strip().splitlines()[-3:])[-600:]


def _title(result: Result) -> str:
    return f"{result.verb}: {result.point} {result.errno}".rstrip()
