"""asyncrt prune: stopped containers go, the others stay."""

from __future__ import annotations

import pytest

from tests.cli.command import Asyncrt


def test_stopped_ones_go_and_are_printed(asyncrt: Asyncrt) -> None:
    for name in ("one", "two"):
        asyncrt.do("run", "--keep", name, "--", "true")
    asyncrt.detached("live", "sleep", "1000")
    assert asyncrt("prune", "--dry-run") == "one\ntwo\n"
    assert sorted(asyncrt.views()) == ["live", "one", "two"]
    assert asyncrt("prune", "--until", "1h") == ""
    assert asyncrt("prune", "--annotation", "team") == ""
    assert asyncrt("prune", "--sandbox", "two") == "two\n"
    assert asyncrt("prune", "--until", "0s") == "one\n"
    assert asyncrt("prune") == ""
    assert asyncrt.views()["live"]["status"] == "running"
    assert asyncrt("list", "-q", "--until", "0s") == "live\n"
    assert asyncrt("list", "-q", "--until", "2000-01-01") == ""
    asyncrt.do("delete", "--force", "live")
    assert asyncrt.left() == []


@pytest.mark.parametrize("command", ["prune", "list"])
def test_a_time_that_is_none_is_a_usage_error(asyncrt: Asyncrt, command: str) -> None:
    assert "'yesterday' is no time" in asyncrt.fails(command, "--until", "yesterday", status=2)
