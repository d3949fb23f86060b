"""Fields of a config that no other test looks at from inside a sandbox."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import asyncrt
from asyncrt import _libc
from asyncrt.launch import privileges
from asyncrt.platforms import linux
from tests.helpers.sandboxes import MAPPED, ROOT, config, said, spec

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_program("busybox")]

as_root = pytest.mark.parametrize("who", [ROOT, MAPPED])


def _shell(rootfs: str, script: str, who: str = ROOT) -> dict[str, Any]:
    return config(rootfs, ["/bin/sh", "-c", script], who=who)


@as_root
async def test_both_clocks_have_their_offsets(
    engine: asyncrt.Engine, rootfs: str, who: str
) -> None:
    """config-linux.md, "Offset for Time Namespace"."""
    made = _shell(rootfs, "tr -s ' ' < /proc/self/timens_offsets", who)
    made["linux"]["namespaces"].append({"type": "time"})
    made["linux"]["timeOffsets"] = {
        "monotonic": {"secs": 11, "nanosecs": 22},
        "boottime": {"secs": 33, "nanosecs": 44},
    }
    assert (await said(engine, made)).split("\n") == ["monotonic 11 22", "boottime 33 44", ""]


@pytest.mark.parametrize(
    ("propagation", "shown"),
    [
        ("shared", "shared"),
        ("rshared", "shared"),
        ("private", "-"),
        ("rprivate", "-"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ],
)
async def test_the_roots_propagation(
    engine: asyncrt.Engine, rootfs: str, propagation: str, shown: str
) -> None:
    """config-linux.md, "Rootfs Mount Propagation"; what is mounted in it, with an "r" only."""
    script = 'awk \'$5 == "/" || $5 == "/tmp" {print $7}\' /proc/self/mountinfo | cut -d: -f1'
    made = _shell(rootfs, script)
    made["linux"]["rootfsPropagation"] = propagation
    root, below = (await said(engine, made)).split()
    assert root == shown
    assert below == (shown if propagation.startswith("r") else "-")


@pytest.mark.parametrize(
    ("scheduler", "written"),
    [
        ({"policy": "SCHED_FIFO", "priority": 7}, (1, 0, 0, 7, 0, 0, 0)),
        (
            {"policy": "SCHED_RR", "priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            (2, 1, 0, 9, 0, 0, 0),
        ),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 11, "deadline": 22, "period": 33},
            (6, 0, 0, 0, 11, 22, 33),
        ),
        ({"policy": "SCHED_OTHER", "nice": -3}, (0, 0, -3, 0, 0, 0, 0)),
    ],
)
def test_the_scheduler_is_set_in_one_call(
    monkeypatch: pytest.MonkeyPatch, scheduler: dict[str, Any], written: tuple[int, ...]
) -> None:
    """config.md, "scheduler". A real-time policy needs a right that machines of tests may lack."""
    made = config("/rootfs", ["true"])
    made["process"]["scheduler"] = scheduler
    plan = linux.plan(spec(made))["privileges"]
    calls: list[Any] = []
    monkeypatch.setattr(_libc, "syscall", lambda *arguments: calls.append(arguments))
    privileges._schedule(plan)
    [(_, pid, packed, flags)] = calls
    assert (pid, flags) == (0, 0)
    assert struct.unpack("=IIQiIQQQ", packed) == (48, *written)


@as_root
async def test_no_new_privileges_is_asked_for_and_else_not(
    engine: asyncrt.Engine, rootfs: str, who: str
) -> None:
    for wanted in (True, False):
        made = _shell(rootfs, "grep NoNewPrivs /proc/self/status | cut -f2", who)
        made["process"]["noNewPrivileges"] = wanted
        assert (await said(engine, made)).strip() == str(int(wanted))
