"""What a recovery found under a root, and what became of it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

CREATION: Final = "interrupted creation"
DELETION: Final = "interrupted deletion"
ABANDONED: Final = "owner gone"
UNRECORDED: Final = "unrecorded end"
BEGUN: Final = "unrecorded start"
UNPUMPED: Final = "dead log pump"
BROKEN: Final = "broken record"
LOCKLESS: Final = "record without lock"
PROCESS: Final = "process without record"
LEFT_OVER: Final = "files without record"
TEMPORARY: Final = "temporary file"
MEMBER: Final = "stale member"
EVENT: Final = "missing event"
FULL_LOG: Final = "full event log"
FOREIGN: Final = "foreign file"
UNKNOWN: Final = "unknown"

NOT_OURS: Final = "it has none of the names that asyncrt gives"

Outcome = Literal["mended", "would mend", "busy", "left", "failed"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that isn't as it should be.

    `kind` is one of: interrupted creation, interrupted deletion, owner gone (of a container with a
    lease), unrecorded end, unrecorded start, dead log pump, broken record, record without lock,
    process without record, files without record, temporary file, stale member, missing event, full
    event log, foreign file, unknown (a part of the search itself failed). Of `id`, `path` and `pid` those are set that it has.

    `outcome`: mended; would mend (on a dry run); busy, somebody holds its lock, who will see to it
    or let the next recovery do so; left, which is not for a recovery to touch; failed, and `why`.
    `action` is what mending it is, in words; "" where there is none.
    """

    kind: str
    outcome: Outcome
    action: str = ""
    why: str = ""
    id: str | None = None
    path: str | None = None
    pid: int | None = None


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a recovery of `root` found, in the order it was dealt with; empty if all is well."""

    root: str
    dry_run: bool
    findings: tuple[Finding, ...] = ()

    def of(self, outcome: Outcome) -> list[Finding]:
        """The findings with that outcome."""
        return [each for each in self.findings if each.outcome == outcome]

    @property
    def complete(self) -> bool:
        """Whether nothing failed, and no record is broken."""
        return not any(each.outcome == "failed" or each.kind == BROKEN for each in self.findings)
