"""Metrics of all containers of a root, for Prometheus and what speaks its formats.

Needs prometheus_client (`pip install 'asyncrt[metrics]'`). A program that has a registry of its own
registers a Collector with it:

    prometheus_client.REGISTRY.register(asyncrt.metrics.Collector())

Everything is read when it is asked for, without a lock, a daemon or an event loop; from any thread.
Names follow OpenMetrics. `id` and `sandbox` say whose a sample is.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

import psutil

try:
    from prometheus_client import CollectorRegistry, exposition
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.openmetrics import exposition as openmetrics
except ImportError as error:
    raise ImportError(
        "metrics need prometheus_client: pip install 'asyncrt[metrics]'", name=error.name
    ) from error

from asyncrt.container import measure
from asyncrt.errors import AsyncrtError, ContainerNotFound, StorageFailed
from asyncrt.state import default_root, list_ids, look
from asyncrt.status import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import Any

    from prometheus_client.core import Metric

    from asyncrt.container import Stats
    from asyncrt.state import Observed, Record

    Family = CounterMetricFamily | GaugeMetricFamily
    # Values by the labels that follow id and sandbox.
    Samples = Iterable[tuple[tuple[str, ...], float | None]]

Format = Literal["openmetrics", "prometheus"]

_BROKEN = "broken"
_LIVE = {Status.CREATED, Status.RUNNING, Status.PAUSED}
_WHOSE = ("id", "sandbox")


class _Figure(NamedTuple):
    """One family of samples: what it is called, and where in a container's stats it stands."""

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    help: str
    of: Callable[[Stats], Samples]
    labels: tuple[str, ...] = ()


def _one(path: str) -> Callable[[Stats], Samples]:
    """A figure that there is one of; of what isn't counted there is none."""
    names = path.split(".")

    def of(stats: Stats) -> Samples:
        found: Any = stats
        for name in names:
            found = None if found is None else getattr(found, name)
        return [((), found)]

    return of


def _each(path: str, label: str, field: str) -> Callable[[Stats], Samples]:
    """A figure of each element, told apart by a field of its own."""
    elements, name, value = attrgetter(path), attrgetter(label), attrgetter(field)

    def of(stats: Stats) -> Samples:
        if stats.cgroup is None:
            return []
        return [((str(name(each)),), value(each)) for each in elements(stats.cgroup)]

    return of


def _cpu(stats: Stats) -> Samples:
    return [(("user",), stats.user_seconds), (("system",), stats.system_seconds)]


def _pressure(stats: Stats) -> Samples:
    for resource, found in (stats.cgroup.pressure if stats.cgroup is not None else {}).items():
        yield (resource, "some"), found.some.total_seconds
        if found.full is not None:
            yield (resource, "full"), found.full.total_seconds


_C, _G = CounterMetricFamily, GaugeMetricFamily
_MEMORY, _CPU, _TASKS = "cgroup.memory", "cgroup.cpu", "cgroup.pids"
_FIGURES = (
    _Figure(_G, "processes", "Processes.", _one("pids")),
    _Figure(_G, "threads", "Threads of all processes.", _one("threads")),
    _Figure(_C, "cpu_seconds", "Processor time, by mode: user or system.", _cpu, ("mode",)),
    _Figure(_G, "resident_memory_bytes", "Memory held; shared counts for each.", _one("rss_bytes")),
    _Figure(_C, "storage_read_bytes", "Read from storage by processes.", _one("read_bytes")),
    _Figure(_C, "storage_written_bytes", "Written to storage by processes.", _one("write_bytes")),
    _Figure(_C, "cpu_periods", "Periods with a quota of processor time.", _one(f"{_CPU}.periods")),
    _Figure(
        _C,
        "cpu_throttled_periods",
        "Periods in which the quota was used up.",
        _one(f"{_CPU}.throttled_periods"),
    ),
    _Figure(
        _C,
        "cpu_throttled_seconds",
        "Time that it stood still for its quota.",
        _one(f"{_CPU}.throttled_seconds"),
    ),
    _Figure(_G, "memory_usage_bytes", "Memory charged to it.", _one(f"{_MEMORY}.usage_bytes")),
    _Figure(_G, "memory_limit_bytes", "Memory it may use.", _one(f"{_MEMORY}.limit_bytes")),
    _Figure(_G, "memory_peak_bytes", "The most it has used.", _one(f"{_MEMORY}.peak_bytes")),
    _Figure(
        _G,
        "memory_anonymous_bytes",
        "Memory that no file stands behind.",
        _one(f"{_MEMORY}.anonymous_bytes"),
    ),
    _Figure(_G, "memory_cache_bytes", "Cached file contents.", _one(f"{_MEMORY}.cache_bytes")),
    _Figure(_G, "swap_usage_bytes", "Swap in use.", _one(f"{_MEMORY}.swap_bytes")),
    _Figure(_G, "swap_limit_bytes", "Swap it may use.", _one(f"{_MEMORY}.swap_limit_bytes")),
    _Figure(
        _C,
        "memory_limit_hits",
        "Times that it was at its limit of memory.",
        _one(f"{_MEMORY}.limit_hits"),
    ),
    _Figure(
        _C,
        "memory_oom_kills",
        "Processes killed for want of memory.",
        _one(f"{_MEMORY}.oom_kills"),
    ),
    _Figure(_G, "tasks", "Processes and threads in its cgroup.", _one(f"{_TASKS}.current")),
    _Figure(_G, "tasks_limit", "Processes and threads it may have.", _one(f"{_TASKS}.limit")),
    *(
        _Figure(
            _C,
            f"device_{name}",
            f"{said} a block device, by major:minor.",
            _each("io", "device", field),
            ("device",),
        )
        for name, field, said in (
            ("read_bytes", "read_bytes", "Read from"),
            ("written_bytes", "write_bytes", "Written to"),
            ("reads", "read_operations", "Reads from"),
            ("writes", "write_operations", "Writes to"),
        )
    ),
    *(
        _Figure(
            kind,
            f"hugepages_{name}",
            f"{said}, by page size.",
            _each("hugepages", "page_size", field),
            ("page_size",),
        )
        for kind, name, field, said in (
            (_G, "usage_bytes", "usage_bytes", "Huge pages in use"),
            (_G, "limit_bytes", "limit_bytes", "Huge pages it may use"),
            (_C, "limit_hits", "limit_hits", "Times that there were no more huge pages for it"),
        )
    ),
    _Figure(
        _C,
        "pressure_seconds",
        "Time spent waiting for a resource: by some of its processes, or by all (full).",
        _pressure,
        ("resource", "kind"),
    ),
)


_Moment = Callable[["Record", "Observed"], "datetime | None"]
_MOMENTS: tuple[tuple[str, str, _Moment], ...] = (
    ("created", "When it was created.", lambda record, _: record.created_at),
    ("started", "When its program was started.", lambda record, _: record.started_at),
    ("finished", "When it ended.", lambda _, seen: seen.exit.finished_at if seen.exit else None),
)


class Collector:
    """Collects a root's metrics when a registry asks for them; blocks for reads of files.

    A broken record is counted as that. One that goes, or can't be measured, while it is looked at is
    left out; the others are told all the same.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        """`root`: the containers' root directory; None: the default one. Nothing is opened yet."""
        self._root = default_root() if root is None else str(root)

    def describe(self) -> Iterator[Metric]:
        """Nothing: so that a registry doesn't collect to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics as of now. Raises StorageFailed for a root that can't be read."""
        began = time.monotonic()
        found = _Found(self._root)
        for container_id in self._ids():
            try:
                record, observed = look(self._root, container_id)
            except ContainerNotFound:
                continue
            except AsyncrtError:
                found.count(_BROKEN)
                continue
            found.add(record, observed)
        yield from found.families()
        yield _family(
            _G,
            "asyncrt_collect_duration_seconds",
            "How long this took.",
            (),
            [((), time.monotonic() - began)],
        )

    def _ids(self) -> Sequence[str]:
        try:
            return list_ids(self._root)
        except StorageFailed as error:
            if error.errno != errno.ENOENT:
                raise
            return []  # nobody has made a container there yet


class _Found:
    """What is known of the containers that were looked at."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._counts = dict.fromkeys((*(each.value for each in Status), _BROKEN), 0)
        self._seen: list[tuple[Record, Observed]] = []
        self._samples: list[list[tuple[tuple[str, ...], float]]] = [[] for _ in _FIGURES]
        self._unmeasured = 0

    def count(self, status: str) -> None:
        self._counts[status] += 1

    def add(self, record: Record, observed: Observed) -> None:
        self.count(observed.status.value)
        self._seen.append((record, observed))
        if observed.status not in _LIVE:
            return
        try:
            stats = measure(record, self._root)
        except (OSError, ValueError, psutil.Error):
            self._unmeasured += 1
            return
        for samples, figure in zip(self._samples, _FIGURES, strict=True):
            for labels, value in figure.of(stats):
                if value is not None:
                    samples.append(((record.id, record.sandbox, *labels), value))

    def families(self) -> Iterator[Metric]:
        yield _family(
            _G,
            "asyncrt_containers",
            "Containers, by status.",
            ("status",),
            [((status,), count) for status, count in self._counts.items()],
        )
        yield _family(
            _G,
            "asyncrt_unmeasured_containers",
            "Containers that live and couldn't be measured.",
            (),
            [((), self._unmeasured)],
        )
        yield from self._identities()
        for samples, figure in zip(self._samples, _FIGURES, strict=True):
            name = f"asyncrt_container_{figure.name}"
            yield _family(figure.kind, name, figure.help, (*_WHOSE, *figure.labels), samples)

    def _identities(self) -> Iterator[Metric]:
        own = ("instance", "owner", "platform", "supervision")
        yield _family(
            _G,
            "asyncrt_container_info",
            "What it is.",
            (*_WHOSE, *own),
            [
                ((each.id, each.sandbox, *(str(getattr(each, name)) for name in own)), 1)
                for each, _ in self._seen
            ],
        )
        yield _family(
            _G,
            "asyncrt_container_status",
            "1 for the status it is in.",
            (*_WHOSE, "status"),
            [
                ((each.id, each.sandbox, status.value), float(observed.status is status))
                for each, observed in self._seen
                for status in Status
            ],
        )
        for name, said, of in _MOMENTS:
            moments = [(each, of(each, observed)) for each, observed in self._seen]
            yield _family(
                _G,
                f"asyncrt_container_{name}_timestamp_seconds",
                said,
                _WHOSE,
                [((each.id, each.sandbox), at.timestamp()) for each, at in moments if at],
            )
        ends = [(each, seen.exit) for each, seen in self._seen if seen.exit is not None]
        yield _family(
            _G,
            "asyncrt_container_exit_status",
            "What it ended with, 128 and the signal when killed; and why.",
            (*_WHOSE, "reason"),
            [
                ((each.id, each.sandbox, end.reason), float(end.status_code))
                for each, end in ends
                if end.exit_code is not None or end.signal is not None
            ],
        )


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    help: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float]],
) -> Metric:
    unit = next((each for each in ("seconds", "bytes") if name.endswith(f"_{each}")), "")
    family = kind(name, help, labels=labels, unit=unit)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def render(root: str | os.PathLike[str] | None = None, format: Format = "openmetrics") -> bytes:
    """The metrics of a root as text: OpenMetrics, or Prometheus' own older format. Blocks."""
    made = registry(root)
    if format == "openmetrics":
        text: bytes = openmetrics.generate_latest(made)  # type: ignore[no-untyped-call]  # untyped there
        return text
    return exposition.generate_latest(made)


def registry(root: str | os.PathLike[str] | None = None) -> CollectorRegistry:
    """A registry with a Collector of this root and nothing else, for an exporter of yours."""
    made = CollectorRegistry()
    made.register(Collector(root))
    return made
