"""Leftovers put there by hand: each is found, told, mended, and then isn't found again."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import asyncrt
from asyncrt import _paths
from asyncrt.engine.recovery import files, work
from asyncrt.state import (
    Deletion,
    EventLog,
    ExitResult,
    Identity,
    Leased,
    Record,
    StateFile,
    event_log,
    read_record,
)
from asyncrt.status import Status
from tests.helpers.events import append_line, read_on
from tests.helpers.records import (
    dead_identity,
    make_record,
    names,
    own_identity,
    put_exit,
    put_record,
    some_id,
)
from tests.helpers.recovery import Found, snapshot, told

ENDED = ExitResult(exit_code=0, reason="exit", finished_at=datetime.now(UTC) - timedelta(hours=1))


def put(root: str, record: Record) -> None:
    put_record(root, record)
    os.mkdir(f"{root}/{record.id}{_paths.DIRECTORY}", 0o700)
    with open(f"{root}/{record.id}{_paths.DIRECTORY}/{_paths.CONFIG}", "w") as file:
        file.write('{"ociVersion": "1.2.0"}')


def touch(root: str, *paths: str) -> None:
    for path in paths:
        with open(f"{root}/{path}", "w"):
            pass


async def finds(engine: asyncrt.Engine, *expected: Found) -> None:
    """A dry run says what would be done and changes nothing; then it is done, and done."""
    before = snapshot(engine.root)
    dry = await engine.recover(dry_run=True)
    would = [(kind, id, out.replace("mended", "would mend")) for kind, id, out in expected]
    assert [each for each in told(dry) if each[0] != "missing event"] == sorted(would)
    assert snapshot(engine.root) == before
    assert dry.dry_run
    done = await engine.recover()
    assert [each for each in told(done) if each[0] != "missing event"] == sorted(expected)
    assert not done.dry_run
    left = [each for each in expected if each[2] != "mended"]
    assert told(await engine.recover()) == sorted(left)


def stopped(id: str, **changes: object) -> Record:
    return make_record(
        id, **{"instance": f"{id}-instance", "status": Status.STOPPED, "exit": ENDED, **changes}
    )


async def test_what_has_ended_as_it_should_stays(root: str, engine: asyncrt.Engine) -> None:
    put(root, stopped("web"))
    put(root, stopped("job", lease=Leased(0.0, (own_identity(),))))
    await finds(engine)
    assert {view.id for view in await engine.list()} == {"web", "job"}
    await engine.destroy_many(["web", "job"])


async def test_an_end_that_nobody_wrote_down_is_written_down(
    root: str, engine: asyncrt.Engine
) -> None:
    put(root, make_record("seen", init=dead_identity(), instance="i1"))
    put_exit(root, "seen", "i1")
    put(root, make_record("unseen", init=dead_identity(), instance="i2"))
    await finds(
        engine, ("unrecorded end", "seen", "mended"), ("unrecorded end", "unseen", "mended")
    )
    seen, unseen = read_record(root, "seen"), read_record(root, "unseen")
    assert seen.status is unseen.status is Status.STOPPED
    assert seen.exit is not None
    assert (seen.exit.exit_code, seen.exit.reason) == (3, "exit")
    assert unseen.exit == ExitResult(reason="unknown")
    await engine.destroy_many(["seen", "unseen"])


async def test_after_a_reboot_everything_is_stopped_and_nothing_is_signalled(
    root: str, engine: asyncrt.Engine
) -> None:
    """The pids that the records name are those of others now: here, of this very process."""
    before = msgspec.structs.replace(own_identity(), boot="another")
    all_ours = {"init": before, "supervisor": before, "creator": before}
    for status in (Status.RUNNING, Status.CREATED, Status.PAUSED, Status.CREATING):
        paused = {"paused_from": Status.RUNNING} if status is Status.PAUSED else {}
        put(
            root,
            make_record(status.value, status=status, instance=status.value, **all_ours, **paused),
        )
    leased = make_record("leased", instance="leased", lease=Leased(0.0, (before,)), **all_ours)
    put(root, leased)
    await finds(
        engine,
        ("interrupted creation", "creating", "mended"),
        ("owner gone", "leased", "mended"),
        ("unrecorded end", "created", "mended"),
        ("unrecorded end", "paused", "mended"),
        ("unrecorded end", "running", "mended"),
    )
    views = {view.id: view for view in await engine.list()}
    assert set(views) == {"created", "paused", "running"}
    for view in views.values():
        assert (view.status, view.exit) == (Status.STOPPED, ExitResult(reason="unknown"))
    await engine.destroy_many(list(views))


@pytest.mark.parametrize("by", [own_identity, dead_identity])
async def test_what_was_created_is_its_creators_though_its_init_never_heard_that_it_is(
    root: str, engine: asyncrt.Engine, by: Callable[[], Identity]
) -> None:
    """Its sandbox ended right after the record was saved; the creation was told to have succeeded."""
    interrupted = ExitResult(reason="creation interrupted")
    put(root, stopped("web", exit=interrupted, init=dead_identity(), creator=by()))
    lives = by is own_identity
    await finds(engine, *([] if lives else [("interrupted creation", "web", "mended")]))
    assert [view.id for view in await engine.list()] == ["web"] * lives
    await engine.destroy_many("web")


@pytest.mark.parametrize("folded", [True, False])
async def test_an_interrupted_creation_is_removed(
    root: str, engine: asyncrt.Engine, folded: bool
) -> None:
    interrupted = ExitResult(reason="creation interrupted")
    if folded:  # by a verb that was refused
        put(root, stopped("web", exit=interrupted, creator=dead_identity()))
    else:
        put(root, make_record(status=Status.CREATING, creator=dead_identity()))
    put(root, make_record("live", status=Status.CREATING, creator=own_identity(), instance="i"))
    await finds(engine, ("interrupted creation", "web", "mended"))
    assert [view.id for view in await engine.list()] == ["live"]
    for name in ("live.state", "live.lock", "live.d/config.json"):
        os.unlink(f"{root}/{name}")
    os.rmdir(f"{root}/live.d")
    os.unlink(f"{root}/live.queue") if os.path.exists(f"{root}/live.queue") else None


@pytest.mark.parametrize("left", ["deletion", "no directory", "aside"])
async def test_an_interrupted_deletion_is_finished(
    root: str, engine: asyncrt.Engine, left: str
) -> None:
    if left == "deletion":
        put(root, stopped("web", deletion=Deletion()))
    else:
        put_record(root, stopped("web"))
    if left == "aside":
        os.mkdir(f"{root}/.web.d~")
        touch(root, ".web.d~/config.json")
    expected: list[Found] = [("interrupted deletion", "web", "mended")]
    dry = [*expected, ("temporary file", "web", "mended")] if left == "aside" else expected
    would = [(kind, id, "would mend") for kind, id, _ in dry]
    told_dry = [e for e in told(await engine.recover(dry_run=True)) if e[0] != "missing event"]
    assert told_dry == would
    assert [e for e in told(await engine.recover()) if e[0] != "missing event"] == expected
    assert names(root) == []
    assert told(await engine.recover()) == []


OWNERS: dict[str, tuple[Callable[[], list[Identity]], float, str, bool]] = {
    "ended for want of one": (lambda: [own_identity()], 60, "lease", True),
    "dead": (lambda: [dead_identity()], 0, "exit", True),
    "dead, within the grace": (lambda: [dead_identity()], 7200, "exit", False),
    "dead, after the grace": (lambda: [dead_identity()], 3000, "exit", True),
    "alive": (lambda: [own_identity()], 0, "signal", False),
    "one of two alive": (lambda: [dead_identity(), own_identity()], 0, "exit", False),
    "both dead": (lambda: [dead_identity(), dead_identity()], 0, "unknown", True),
}


@pytest.mark.parametrize("owners", OWNERS)
async def test_what_had_a_lease_goes_when_nobody_is_left_to_collect_it(
    root: str, engine: asyncrt.Engine, owners: str
) -> None:
    make, grace, reason, goes = OWNERS[owners]
    end = msgspec.structs.replace(ENDED, reason=reason)
    put(root, stopped("web", exit=end, lease=Leased(grace, tuple(make()))))
    await finds(engine, *([("owner gone", "web", "mended")] if goes else []))
    assert names(root) == [] if goes else "web.state" in names(root)
    await engine.delete("web", force=True)


async def test_files_of_ids_without_a_record_are_removed(root: str, engine: asyncrt.Engine) -> None:
    touch(root, "a.lock", "a.queue", "b.lock", "c.queue", ".e.state~", "f.lock", ".f.state~")
    touch(root, ".h.0123456789ab~", ".i.state.0123456789ab~", ".j.exit~")
    for name in ("d.d", "f.d", ".g.d~"):
        os.mkdir(f"{root}/{name}")
        touch(root, f"{name}/config.json")
    await finds(engine, *(("files without record", id, "mended") for id in "abcdefghij"))
    assert names(root) == []


async def test_an_id_that_ends_like_a_suffix_keeps_its_files_apart(
    root: str, engine: asyncrt.Engine
) -> None:
    """Else one recovers under another id's lock what its holder is writing."""
    ids = ["web.d", "web.state", "web.exit"]
    touch(root, *(f".{id}{suffix}~" for id in ids for suffix in (".state", ".d", ".exit")))
    await finds(engine, *(("files without record", id, "mended") for id in ids))
    assert names(root) == []


async def test_a_temporary_file_goes_and_its_container_stays(
    root: str, engine: asyncrt.Engine
) -> None:
    put(root, stopped("web"))
    touch(root, ".web.state~", ".web.0123456789ab~")
    await finds(engine, ("temporary file", "web", "mended"))
    assert not [name for name in names(root) if name.startswith(".")]
    await engine.delete("web")


async def test_what_somebody_has_in_hand_is_busy_and_left(
    root: str, engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LOCK_SECONDS", 0.05)
    put(root, stopped("saving"))
    put(root, stopped("deleting", deletion=Deletion()))
    touch(root, ".saving.state~")
    holders = [StateFile(root, some_id(id)) for id in ("saving", "deleting", "making")]
    await holders[0].lock()
    await holders[1].lock()
    await holders[2].lock_for_new()
    os.mkdir(f"{root}/making.d")
    before = snapshot(root)
    expected = [
        ("files without record", "making", "busy"),
        ("interrupted deletion", "deleting", "busy"),
        ("temporary file", "saving", "busy"),
    ]
    for dry_run in (True, False):
        report = await engine.recover(dry_run)
        assert [each for each in told(report) if each[0] != "missing event"] == expected
        assert report.complete
        assert all(each.why for each in report.of("busy"))
    for path, found in before.items():
        if path != root:
            assert snapshot(root)[path] == found
    for each in holders:
        each.close()
    await engine.recover()
    assert {name for name in names(root) if not name.startswith("saving")} == set()
    await engine.delete("saving")


async def test_a_record_without_a_lock_can_be_changed_again(
    root: str, engine: asyncrt.Engine
) -> None:
    put(root, stopped("web"))
    put(root, make_record("job", init=dead_identity(), instance="i"))
    touch(root, "broken.state")
    for id in ("web", "job"):
        os.unlink(f"{root}/{id}.lock")
    report = await engine.recover()
    assert {each for each in told(report) if each[0] != "missing event"} == {
        ("broken record", "broken", "left"),
        ("record without lock", "broken", "mended"),
        ("record without lock", "job", "mended"),
        ("record without lock", "web", "mended"),
        ("unrecorded end", "job", "mended"),
    }
    await engine.destroy_many(["web", "job", "broken"])
    assert names(root) == []


async def test_broken_and_foreign_things_are_told_and_left(
    root: str, engine: asyncrt.Engine
) -> None:
    foreign = ["notes.txt", "a b.lock", ".hidden", "~other", ".swp~", "...lock", "...d"]
    touch(root, *foreign, "broken.lock")
    with open(f"{root}/broken.state", "w") as file:
        file.write("{")
    os.mkdir(f"{root}/lost+found")
    await finds(
        engine,
        ("broken record", "broken", "left"),
        *(("foreign file", name, "left") for name in (*foreign, "lost+found")),
    )
    report = await engine.recover()
    assert not report.complete
    assert all(each.why for each in report.findings)
    await engine.delete("broken", force=True)
    assert (await engine.recover()).complete
    for name in foreign:
        os.unlink(f"{root}/{name}")
    os.rmdir(f"{root}/lost+found")


async def test_one_failure_doesnt_stop_the_rest(root: str, engine: asyncrt.Engine) -> None:
    os.mkdir(f"{root}/a.lock")  # no lock can be taken on a directory
    touch(root, "b.lock")
    report = await engine.recover()
    assert told(report) == [
        ("files without record", "a", "failed"),
        ("files without record", "b", "mended"),
    ]
    assert not report.complete
    os.rmdir(f"{root}/a.lock")


async def test_stale_members_are_removed_and_a_live_creation_isnt_one(
    root: str, engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LOCK_SECONDS", 0.05)
    put(root, stopped("pod", platform="linux"))
    put(root, stopped("there", platform="linux", sandbox="pod"))
    os.mkdir(f"{root}/pod.d/members")
    touch(root, *(f"pod.d/members/{id}" for id in ("there", "gone", "making", "a b")))
    making = StateFile(root, some_id("making"))
    await making.lock_for_new()
    touch(root, ".making.state~")  # what its lock's files go with
    expected = {
        ("stale member", "pod", "mended"),
        ("stale member", "pod", "busy"),
        ("foreign file", "a b", "left"),
        ("files without record", "making", "busy"),
    }
    found = told(await engine.recover())
    assert {each for each in found if each[0] != "missing event"} == expected
    assert set(os.listdir(f"{root}/pod.d/members")) == {"there", "making", "a b"}
    making.close()
    await engine.recover()
    assert set(os.listdir(f"{root}/pod.d/members")) == {"there", "a b"}
    await engine.destroy_many(["pod", "there"])


async def test_what_the_log_of_events_lacks_is_told(root: str, engine: asyncrt.Engine) -> None:
    append_line(root, "web", 1, instance="web-instance", status="creating")
    append_line(root, "old", 1, instance="old-instance", status="running")
    put(root, stopped("web"))
    log = EventLog(root)
    at = log.begin(None)
    assert at is not None
    before = snapshot(root)
    expected = [("missing event", "old", "mended"), ("missing event", "web", "mended")]
    assert told(await engine.recover(dry_run=True)) == [
        (a, b, "would mend") for a, b, _ in expected
    ]
    assert snapshot(root) == before
    assert told(await engine.recover()) == expected
    events, _ = read_on(log, at)
    assert {(each.id, each.status, each.operation) for each in events} == {
        ("web", "stopped", "gc"),
        ("old", "destroyed", "gc"),
    }
    assert told(await engine.recover()) == []
    await engine.delete("web")


async def test_a_full_log_is_rotated_and_what_makers_of_logs_left_is_removed(
    root: str, engine: asyncrt.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = append_line(root, "web", 1, status="destroyed")
    touch(root, ".~events~", ".~events.1~", ".~events.0123456789ab~", ".~events.ba9876543210~")
    hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(f"{root}/.~events.0123456789ab~", (hour_ago, hour_ago))
    monkeypatch.setattr(event_log, "ROTATE_BYTES", len(line))
    await finds(
        engine,
        ("full event log", "~events", "mended"),
        ("temporary file", ".~events.0123456789ab~", "mended"),
        ("temporary file", ".~events.1~", "mended"),
        ("temporary file", ".~events~", "mended"),
    )
    # The other may be in the making this very moment.
    assert set(os.listdir(root)) == {
        "~events",
        "~events.1",
        "~events.lock",
        ".~events.ba9876543210~",
    }
    monkeypatch.setattr(files, "WRITING_SECONDS", 0)
    await finds(engine, ("temporary file", ".~events.ba9876543210~", "mended"))


async def test_an_empty_root_stays_empty(root: str, engine: asyncrt.Engine) -> None:
    assert (await engine.recover(dry_run=True)).findings == ()
    assert (await engine.recover()).findings == ()
    assert os.listdir(root) == []
