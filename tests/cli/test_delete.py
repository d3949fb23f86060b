"""asyncrt delete: several at once, missing ones, live ones."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Asyncrt


def test_it_goes_on_after_a_failure_and_reports_each(asyncrt: Asyncrt) -> None:
    asyncrt.detached("live", "sleep", "1000")
    asyncrt("run", "--keep", "done", "--", "true")
    out, err = asyncrt.both("delete", "gone", "live", "missing", "done", status=1)
    assert out == ""
    lines = sorted(err.splitlines())
    assert len(lines) == 3
    assert "can't delete container 'live': it is running" in lines[0]
    assert "no container 'gone'" in lines[1]
    assert "no container 'missing'" in lines[2]
    assert asyncrt("list", "-q") == "live\n"
    # One that is missing is fine with --force, and named twice counts once.
    assert asyncrt("delete", "--force", "gone", "live", "live") == ""
    assert asyncrt.left() == []


def test_a_broken_one_needs_force(asyncrt: Asyncrt) -> None:
    (Path(asyncrt.root) / "broken.state").write_text("not json")
    (Path(asyncrt.root) / "broken.lock").touch()
    assert "broken.state is broken" in asyncrt.fails("delete", "broken")
    asyncrt("delete", "--force", "broken")
    assert asyncrt.left() == []
