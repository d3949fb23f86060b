"""Wall-clock stamps, for records only. Durations and deadlines use time.monotonic.

Standard library only: the supervisor stamps exit records with it.
"""

from __future__ import annotations

import time


def stamp() -> str:
    """Now in UTC as RFC 3339 with microseconds, e.g. 2026-01-31T12:00:00.000001Z."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    # Not strftime, whose look at locale and time zone costs a fresh child more than all the rest.
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return (
        f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{rest // 1000:06d}Z"
    )
