"""Wall-clock stamps, for records only. Durations and deadlines use time.monotonic.

Standard library only: the supervisor stamps exit records with it.
"""

from __future__ import annotations

import time


def stamp() -> str:
    """Now in UTC as RFC 3339 with microseconds, e.g. 2026-01-31T12:00:00.000001Z."""
    now = time.time_ns()
    seconds, rest = divmod(now, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{rest // 1000:06d}Z"
