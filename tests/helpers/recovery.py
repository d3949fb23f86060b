"""Recovering in tests: what is found, and a root that is looked at byte for byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncrt

Found = tuple[str, str, str]


def told(report: asyncrt.RecoveryReport) -> list[Found]:
    """Kind, id or name or "pid", and outcome of everything found, sorted."""
    return sorted(
        (
            each.kind,
            each.id or (os.path.basename(each.path) if each.path else "pid" if each.pid else ""),
            each.outcome,
        )
        for each in report.findings
    )


async def recovered(engine: asyncrt.Engine) -> list[asyncrt.RecoveryReport]:
    """Recover until nothing is found: what has just been killed may still be ending."""
    reports: list[asyncrt.RecoveryReport] = []

    while not reports or reports[-1].findings:
        report = await engine.recover()
        assert report.complete, report
        reports.append(report)
        assert len(reports) < 20, reports[-1]
    return reports


def snapshot(root: str) -> dict[str, object]:
    """Every name below the root with what is in it and when it was changed."""
    found: dict[str, object] = {}
    for directory, _, names in os.walk(root):
        found[directory] = os.stat(directory).st_mtime_ns
        for name in names:
            path = os.path.join(directory, name)
            stat = os.lstat(path)
            content = b""
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
            found[path] = (stat.st_ino, stat.st_mtime_ns, stat.st_mode, content)
    return found
