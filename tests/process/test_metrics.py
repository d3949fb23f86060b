"""Metrics of a root: in the formats that scrapers read, true, and whatever happens to one container."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import CollectorRegistry

import asyncrt
from asyncrt import Engine, metrics
from asyncrt.container import Stats, measure
from asyncrt.state import Record
from tests.helpers.cgroups import limited
from tests.helpers.containers import destroyed, shell, sleeper, started
from tests.helpers.metrics import openmetrics_families, prometheus_families
from tests.helpers.records import make_record, put_record

Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
async def nothing_stays(engine: Engine) -> AsyncIterator[None]:
    """A failed test's cgroups would outlive it; a container's end takes them along."""
    yield
    for each in await engine.list():
        await engine.delete(each.id, force=True)


def _families(root: str) -> dict[str, Any]:
    text = metrics.render(root).decode()
    return {each.name: each for each in openmetrics_families(text)}


def _samples(root: str) -> Samples:
    """Values by the sample's name and its labels' values, but for those that are everywhere."""
    found: Samples = {}
    for family in _families(root).values():
        for each in family.samples:
            labels = {**each.labels}
            sandbox = labels.pop("sandbox", None)
            assert sandbox == labels.get("id")
            found[(each.name.removeprefix("asyncrt_"), *labels.values())] = each.value
    return found


async def test_both_formats_are_what_their_parsers_take(engine: Engine) -> None:
    """OpenMetrics' is a strict one: units, suffixes, order, the end."""
    await started(engine, "web", sleeper())
    put_record(engine.root, make_record("odd", owner='q"uo\\te\nd'))
    families = _families(engine.root)
    assert len(families) > 30
    for name, family in families.items():
        assert name.startswith("asyncrt_")
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge"}
        for sample in family.samples:
            assert sample.name == (f"{name}_total" if family.type == "counter" else name)
            if name.startswith("asyncrt_container_"):
                assert {"id", "sandbox"} <= sample.labels.keys()
    info = {each.labels["id"]: each.labels for each in families["asyncrt_container_info"].samples}
    assert info["odd"]["owner"] == 'q"uo\\te\nd'
    older = metrics.render(engine.root, "prometheus").decode()
    assert not older.endswith("# EOF\n")
    assert {each.name.removesuffix("_total") for each in prometheus_families(older)} == (
        set(families)
    )
    for name in ("odd.state", "odd.lock"):
        (Path(engine.root) / name).unlink()


async def test_figures_are_those_of_stats_and_view(engine: Engine) -> None:
    container = await started(engine, "web", shell("sleep 1000 & wait"))
    ended = await started(engine, "ended", shell("kill -9 $$"))
    await ended.wait()
    await engine.create("waits", spec=sleeper())
    async with asyncio.timeout(20):
        while (await container.stats()).pids != 2:
            await asyncio.sleep(0.01)  # the kernel tells nobody of a fork
    found = _samples(engine.root)
    counts = {key[1]: value for key, value in found.items() if key[0] == "containers"}
    assert counts == {
        **dict.fromkeys(("creating", "paused", "broken"), 0),
        **dict.fromkeys(("created", "running", "stopped"), 1),
    }
    assert found["container_processes", "web"] == 2
    assert found["container_processes", "waits"] == 1
    assert ("container_processes", "ended") not in found
    stats = await container.stats()
    assert found["container_cpu_seconds_total", "web", "user"] <= stats.user_seconds
    assert found["container_status", "web", "running"] == 1
    assert found["container_status", "web", "stopped"] == 0
    assert found["container_exit_status", "ended", "signal"] == 128 + 9
    view = await container.view()
    assert view.created_at is not None
    created = found["container_created_timestamp_seconds", "web"]
    assert math.isclose(created, view.created_at.timestamp())
    assert ("container_finished_timestamp_seconds", "ended") in found
    assert ("container_finished_timestamp_seconds", "web") not in found
    assert found["collect_duration_seconds",] > 0


@pytest.mark.needs_root
@pytest.mark.needs_cgroups("memory", "pids")
async def test_what_cgroups_count_has_its_limits_beside_it(engine: Engine) -> None:
    limits = {"memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 9}}
    spec = limited(sleeper(), **limits)  # type: ignore[arg-type]  # resources, not a path
    async with destroyed(await started(engine, "web", spec)):
        found = _samples(engine.root)
        assert found["container_memory_limit_bytes", "web"] == 32 << 20
        assert found["container_swap_limit_bytes", "web"] == 0
        assert 0 < found["container_memory_usage_bytes", "web"] <= 32 << 20
        assert found["container_memory_oom_kills_total", "web"] == 0
        assert found["container_tasks", "web"] == 1
        assert found["container_tasks_limit", "web"] == 9
        await (await engine.load("web")).update({"memory": {"limit": -1}, "pids": {"limit": -1}})
        found = _samples(engine.root)
        assert ("container_memory_limit_bytes", "web") not in found  # no limit is no number
        assert ("container_tasks_limit", "web") not in found


async def test_a_broken_record_and_one_that_cant_be_measured_harm_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("one", "two"):
        await started(engine, id, sleeper())
    bad = Path(engine.root, "bad.state")
    bad.write_text("{")

    def measured(record: Record, root: str) -> Stats:
        if record.id == "one":
            raise psutil.NoSuchProcess(1)
        return measure(record, root)

    monkeypatch.setattr(metrics, "measure", measured)
    found = _samples(engine.root)
    assert found["containers", "broken"] == 1
    assert found["containers", "running"] == 2
    assert found["unmeasured_containers",] == 1
    assert ("container_processes", "two") in found
    assert ("container_processes", "one") not in found
    bad.unlink()


async def test_containers_that_come_and_go_meanwhile_harm_nothing(engine: Engine) -> None:
    spec = asyncrt.Spec.command(["/bin/true"])
    await started(engine, "stays", sleeper())
    done = asyncio.Event()

    async def churn() -> None:
        for number in range(30):
            await engine.run(f"job{number}", spec=spec)
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(churn())
        looks = 0
        while not done.is_set():
            text = await asyncio.to_thread(  # noqa: TID251 - as a scraper's server does
                metrics.render, engine.root
            )
            found = openmetrics_families(text.decode())
            samples = next(each for each in found if each.name == "asyncrt_container_processes")
            assert "stays" in {each.labels["id"] for each in samples.samples}
            looks += 1
    assert looks > 1


async def test_a_registry_of_somebody_elses_takes_it(engine: Engine) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(metrics.Collector(engine.root))
    assert registry.get_sample_value("asyncrt_containers", {"status": "running"}) == 0
    await started(engine, "web", sleeper())
    assert registry.get_sample_value("asyncrt_containers", {"status": "running"}) == 1


def test_a_root_that_is_not_there_has_none_and_one_that_is_none_is_an_error(tmp_path: Path) -> None:
    assert _samples(str(tmp_path / "missing"))["containers", "running"] == 0
    assert not (tmp_path / "missing").exists()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(asyncrt.StorageFailed):
        metrics.render(file)
