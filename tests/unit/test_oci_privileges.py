"""Scheduling, input and output, affinity, personality: what makes no sense is refused by its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec
from asyncrt.oci.check_privileges import cpu_list
from asyncrt.oci.words import CAPABILITIES


def refused(process: dict[str, Any], linux: dict[str, Any] | None = None) -> str:
    config = {"ociVersion": "1.2.0", "process": {"cwd": "/", **process}, "linux": linux or {}}
    with pytest.raises(SpecInvalid) as caught:
        Spec.decode(json.dumps(config).encode())
    return caught.value.json_path


def accepted(process: dict[str, Any]) -> None:
    config = {"ociVersion": "1.2.0", "process": {"cwd": "/", **process}}
    Spec.decode(json.dumps(config).encode())


@pytest.mark.parametrize(
    ("scheduler", "field"),
    [
        ({}, "policy"),
        ({"policy": "FIFO"}, "policy"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "nice"),
        ({"policy": "SCHED_FIFO", "nice": 1, "priority": 1}, "nice"),
        ({"policy": "SCHED_FIFO"}, "priority"),
        ({"policy": "SCHED_RR", "priority": 100}, "priority"),
        ({"policy": "SCHED_BATCH", "priority": 1}, "priority"),
        ({"policy": "SCHED_IDLE", "runtime": 1}, "runtime"),
        ({"policy": "SCHED_DEADLINE", "period": 2**64}, "period"),
        ({"policy": "SCHED_OTHER", "flags": ["RESET"]}, "flags[0]"),
    ],
)
def test_a_scheduler_that_there_is_not(scheduler: dict[str, Any], field: str) -> None:
    assert refused({"scheduler": scheduler}) == f"process.scheduler.{field}"


@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "SCHED_OTHER", "nice": -20},
        {"policy": "SCHED_FIFO", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 2**64 - 1},
    ],
)
def test_a_scheduler_that_there_is(scheduler: dict[str, Any]) -> None:
    accepted({"scheduler": scheduler})


def test_a_class_of_input_and_output_that_there_is_not() -> None:
    assert refused({"ioPriority": {"class": "BE"}}) == "process.ioPriority.class"
    at = refused({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}})
    assert at == "process.ioPriority.priority"


@pytest.mark.parametrize(
    "text", ["a", "1-", "-1", "3-1", "1,,2", " 1", "٣", "99999", "8192", "1-2-3"]
)
def test_a_list_of_cpus_that_is_none(text: str) -> None:
    affinity = {"execCPUAffinity": {"final": text}}
    assert refused(affinity) == "process.execCPUAffinity.final"


def test_a_list_of_cpus() -> None:
    assert cpu_list("") == []
    assert cpu_list("7,0-2,2") == [0, 1, 2, 7]


def test_a_personality_that_there_is_not() -> None:
    assert refused({}, {"personality": {"domain": "BSD"}}) == "linux.personality.domain"
    wrong = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}
    assert refused({}, {"personality": wrong}) == "linux.personality.flags"


def test_the_capabilities_have_the_kernels_numbers() -> None:
    # linux/capability.h, some far apart.
    known = {"CHOWN": 0, "SETPCAP": 8, "SYS_ADMIN": 21, "AUDIT_WRITE": 29, "SYSLOG": 34}
    assert {name: CAPABILITIES[f"CAP_{name}"] for name in known} == known
    assert CAPABILITIES["CAP_CHECKPOINT_RESTORE"] == 40 == len(CAPABILITIES) - 1
