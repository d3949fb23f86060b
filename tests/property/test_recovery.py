"""Roots of random leftovers: whatever is there, one recovery mends it and the second finds nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import asyncrt
from asyncrt.engine.recovery import report as reports
from asyncrt.state import Deletion, ExitResult, Leased, list_views
from asyncrt.status import Status
from tests.helpers.events import append_raw, make_line
from tests.helpers.records import (
    ROOT_WIDE,
    dead_identity,
    make_record,
    own_identity,
    put_exit,
    put_record,
)
from tests.helpers.recovery import snapshot

DEAD = dead_identity()
REBOOTED = msgspec.structs.replace(own_identity(), boot="another")
GONE = st.sampled_from([DEAD, REBOOTED, None])
ANYBODY = st.sampled_from([DEAD, REBOOTED, own_identity()])
IDS = ("a", "a.b", "a.state", "b-", "web", "web2")

exits = st.builds(
    ExitResult,
    exit_code=st.sampled_from([None, 0, 3]),
    reason=st.sampled_from(["exit", "lease", "creation interrupted", "unknown", "signal"]),
    finished_at=st.sampled_from([None, datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)]),
)
leases = st.none() | st.builds(
    Leased,
    grace=st.sampled_from([0.0, 60.0]),
    owners=st.lists(ANYBODY, max_size=2).map(tuple),
)


@st.composite
def containers(draw: st.DrawFn) -> dict[str, Any]:
    """What is on disk of one id; nothing of it runs."""
    status = draw(st.sampled_from(list(Status)))
    fields = {
        "status": status,
        "paused_from": Status.RUNNING if status is Status.PAUSED else None,
        "exit": draw(exits) if status is Status.STOPPED else None,
        "lease": draw(leases),
        "deletion": draw(st.none() | st.just(Deletion())),
        "creator": draw(GONE.filter(bool)),
        "init": draw(GONE),
        "supervisor": draw(GONE),
        "revision": draw(st.integers(1, 5)),
    }
    return {
        "record": draw(st.sampled_from(["whole", "whole", "whole", "broken", "none"])),
        "fields": fields,
        "exit": draw(st.none() | exits),
        "files": draw(
            st.sets(st.sampled_from(["lock", "queue", "d", "temporary", "random", "aside"]))
        ),
        "told": draw(st.none() | st.sampled_from([*map(str, Status), "destroyed"])),
    }


roots = st.dictionaries(st.sampled_from(IDS), containers(), max_size=len(IDS))
others = st.sets(st.sampled_from(["notes", ".~events~", ".~events.1~", "a b.lock", ".x", "~x"]))


def build(root: str, id: str, has: dict[str, Any]) -> None:
    instance = f"instance-{id}"
    if has["record"] == "whole":
        put_record(root, make_record(id, instance=instance, **has["fields"]), lock=False)
    elif has["record"] == "broken":
        with open(f"{root}/{id}.state", "w") as file:
            file.write("{")
    for kind in has["files"]:
        name = {
            "lock": f"{id}.lock",
            "queue": f"{id}.queue",
            "temporary": f".{id}.state~",
            "random": f".{id}.0123456789ab~",
        }.get(kind)
        if name is not None:
            with open(f"{root}/{name}", "w"):
                pass
        else:
            directory = f"{root}/{id}.d" if kind == "d" else f"{root}/.{id}.d~"
            os.makedirs(directory, exist_ok=True)
            with open(f"{directory}/config.json", "w"):
                pass
    if has["exit"] is not None and "d" in has["files"]:
        put_exit(root, id, instance, **msgspec.to_builtins(has["exit"]))
    if has["told"] is not None:
        line = make_line(id, 1, instance=instance, status=has["told"])
        append_raw(root, line)


@given(has=roots, beside=others)
def test_one_recovery_mends_everything(has: dict[str, dict[str, Any]], beside: set[str]) -> None:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = tempfile.mkdtemp(prefix="asyncrt-test-", dir=base)
    try:
        for id, each in has.items():
            build(root, id, each)
        for name in beside:
            with open(f"{root}/{name}", "w"):
                pass
        asyncio.run(recover(root))
        judge(root, has, beside)
    finally:
        shutil.rmtree(root)


async def recover(root: str) -> None:
    async with asyncrt.Engine(root, durable=False) as engine:
        before = snapshot(root)
        dry = await engine.recover(dry_run=True)
        assert snapshot(root) == before
        first = await engine.recover()
        second = await engine.recover()
        assert first.of("failed") == first.of("busy") == []
        # A lock that a record gets back isn't the container's only trouble, but the dry run's end.
        seen = {(each.kind, each.id, each.path) for each in dry.findings}
        done = {(each.kind, each.id, each.path) for each in first.findings}
        assert {each for each in done if each[0] != reports.EVENT} <= seen
        assert {each.outcome for each in second.findings} <= {"left"}
        assert {each.kind for each in second.findings} <= {reports.BROKEN, reports.FOREIGN}
        await engine.close()


def judge(root: str, has: dict[str, dict[str, Any]], beside: set[str]) -> None:
    """By what was built: who must be gone, who must be there, and nothing else."""
    views = {view.id: view for view in list_views(root)}
    for id, each in has.items():
        view = views.get(asyncrt.ContainerId(id))
        if each["record"] == "broken":
            assert view is not None
            assert view.broken is not None
        elif each["record"] == "none":
            assert view is None
        elif each["fields"]["deletion"] or "d" not in each["files"]:
            assert view is None or view.broken is not None
        elif view is not None and view.broken is None:
            assert (view.status, view.pid) == (Status.STOPPED, None)
            assert view.exit is not None
            assert view.exit.reason != "creation interrupted"
            assert not (each["fields"]["lease"] and view.exit.reason == "lease")
    allowed = {id + suffix for id in views for suffix in (".state", ".lock", ".queue", ".d")}
    foreign = {name for name in beside if not name.startswith(".~events")}
    assert set(os.listdir(root)) - ROOT_WIDE <= allowed | foreign
    assert foreign <= set(os.listdir(root))
