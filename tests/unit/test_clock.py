from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from asyncrt import clock


def test_a_stamp_is_now_in_utc_with_microseconds() -> None:
    before = datetime.now(UTC)
    text = clock.stamp()
    after = datetime.now(UTC)
    assert text.endswith("Z")
    assert len(text) == len("2026-01-31T12:00:00.000001Z")
    assert before - timedelta(microseconds=1) <= datetime.fromisoformat(text) <= after


def test_the_time_zone_and_rounding_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_999_999_999)
        assert clock.stamp() == "2001-09-09T01:46:40.999999Z"
        monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_001_000)
        assert clock.stamp() == "2001-09-09T01:46:40.000001Z"
    finally:
        monkeypatch.undo()
        time.tzset()
