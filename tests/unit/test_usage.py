"""What cgroups count, read from made-up files of each version: the same names, the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrt.container.usage import CgroupStats, HugepageUse, IoUse, read_usage

MIB = 1 << 20
UNLIMITED = 9223372036854771712

V1 = {
    "cpu/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 2500000000\n",
    "cpuacct/cpuacct.stat": "user 150\nsystem 50\n",
    "memory/memory.usage_in_bytes": f"{30 * MIB}\n",
    "memory/memory.limit_in_bytes": f"{64 * MIB}\n",
    "memory/memory.memsw.limit_in_bytes": f"{96 * MIB}\n",
    "memory/memory.max_usage_in_bytes": f"{40 * MIB}\n",
    "memory/memory.failcnt": "6\n",
    "memory/memory.stat": f"cache 1\nrss 1\ntotal_cache {MIB}\ntotal_rss {2 * MIB}\ntotal_swap 3\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids/pids.current": "7\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n"
    "8:16 Read 0\n8:16 Write 0\nTotal 30\n",
    "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": f"{2 * MIB}\n",
    "hugetlb/hugetlb.2MB.limit_in_bytes": f"{UNLIMITED}\n",
    "hugetlb/hugetlb.2MB.failcnt": "5\n",
    "hugetlb/hugetlb.2MB.rsvd.usage_in_bytes": "9\n",
}
V2 = {
    "web/cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\n"
    "nr_periods 9\nnr_throttled 4\nthrottled_usec 2500000\n",
    "web/memory.current": f"{30 * MIB}\n",
    "web/memory.max": f"{64 * MIB}\n",
    "web/memory.swap.max": f"{32 * MIB}\n",
    "web/memory.swap.current": "3\n",
    "web/memory.peak": f"{40 * MIB}\n",
    "web/memory.stat": f"anon {2 * MIB}\nfile {MIB}\n",
    "web/memory.events": "low 0\nhigh 0\nmax 6\noom 3\noom_kill 2\noom_group_kill 0\n",
    "web/pids.current": "7\n",
    "web/pids.max": "max\n",
    "web/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n",
    "web/hugetlb.2MB.current": f"{2 * MIB}\n",
    "web/hugetlb.2MB.max": "max\n",
    "web/hugetlb.2MB.events": "max 5\n",
    "web/hugetlb.2MB.rsvd.current": "9\n",
}
PRESSURE = (
    "some avg10=1.50 avg60=0.20 avg300=0.00 total=1500000\n"
    "full avg10=0.50 avg60=0.10 avg300=0.00 total=500000\n"
)


def _usage(directory: Path, files: dict[str, str]) -> CgroupStats:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = read_usage([str(each) for each in sorted(directory.iterdir())])
    assert found is not None
    return found


@pytest.mark.parametrize("files", [V1, V2], ids=["version 1", "version 2"])
def test_both_versions_say_the_same(files: dict[str, str], tmp_path: Path) -> None:
    found = _usage(tmp_path, files)
    assert found.cpu is not None
    assert found.cpu.user_seconds == pytest.approx(1.5)
    assert found.cpu.system_seconds == pytest.approx(0.5)
    assert (found.cpu.periods, found.cpu.throttled_periods) == (9, 4)
    assert found.cpu.throttled_seconds == pytest.approx(2.5)
    memory = found.memory
    assert memory is not None
    assert (memory.usage_bytes, memory.limit_bytes) == (30 * MIB, 64 * MIB)
    assert (memory.swap_bytes, memory.swap_limit_bytes) == (3, 32 * MIB)
    assert (memory.anonymous_bytes, memory.cache_bytes) == (2 * MIB, MIB)
    assert (memory.peak_bytes, memory.limit_hits, memory.oom_kills) == (40 * MIB, 6, 2)
    assert found.pids is not None
    assert (found.pids.current, found.pids.limit) == (7, None)
    device = IoUse(
        device="8:0", read_bytes=10, write_bytes=20, read_operations=1, write_operations=2
    )
    assert found.io == (device,)
    pages = HugepageUse(page_size="2MB", usage_bytes=2 * MIB, limit_bytes=None, limit_hits=5)
    assert found.hugepages == (pages,)
    assert found.pressure == {}


def test_pressure_is_told_where_the_kernel_counts_it(tmp_path: Path) -> None:
    files = {"web/memory.pressure": PRESSURE, "web/cpu.pressure": PRESSURE.splitlines()[0]}
    found = _usage(tmp_path, files).pressure
    assert set(found) == {"memory", "cpu"}
    some, full = found["memory"].some, found["memory"].full
    assert (some.total_seconds, some.avg10, some.avg60) == (1.5, 1.5, 0.2)
    assert full is not None
    assert full.total_seconds == 0.5
    assert found["cpu"].full is None


def test_a_hybrid_machine_counts_each_where_it_does(tmp_path: Path) -> None:
    files = {
        "cpu/cpu.stat": V1["cpu/cpu.stat"],
        "unified/cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n",
        "pids/pids.current": "3\n",
    }
    found = _usage(tmp_path, files)
    assert found.cpu is not None
    assert found.cpu.user_seconds == pytest.approx(3e-6)
    assert found.cpu.throttled_seconds == pytest.approx(2.5)
    assert found.memory is None
    assert found.pids is not None


def test_what_nobody_counts_or_limits_is_none(tmp_path: Path) -> None:
    found = _usage(
        tmp_path,
        {"web/memory.usage_in_bytes": "5\n", "web/memory.limit_in_bytes": f"{UNLIMITED}\n"},
    )
    assert found.cpu is None
    assert found.pids is None
    assert found.memory is not None
    assert found.memory.limit_bytes is None
    assert found.memory.swap_limit_bytes is None
    assert found.memory.oom_kills is None


def test_cgroups_that_have_gone_count_nothing(tmp_path: Path) -> None:
    assert read_usage([str(tmp_path / "gone")]) is None
    assert read_usage([]) is None
