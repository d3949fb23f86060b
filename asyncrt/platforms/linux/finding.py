"""One thing that the doctor looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "limited", "missing"]


class Finding(NamedTuple):
    """`mend` is what to do, for root to run; empty where all is well."""

    check: str
    state: State
    found: str
    mend: str
