"""metrics, as a person prints them and as scrapers get them."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.metrics import openmetrics_families, prometheus_families
from tests.helpers.processes import REPOSITORY

RUNNING = 'asyncrt_containers{status="running"} 1.0'


@pytest.fixture
def running(asyncrt: Asyncrt) -> Asyncrt:
    asyncrt.detached("web", "sleep", "1000")
    return asyncrt


@pytest.fixture(autouse=True)
def _nothing_stays(asyncrt: Asyncrt) -> object:
    yield
    asyncrt.do("delete", "--force", "web")


def test_they_are_printed_in_either_format(running: Asyncrt) -> None:
    text = running("metrics")
    assert RUNNING in text
    assert text.endswith("# EOF\n")
    assert openmetrics_families(text)
    older = running.do("metrics", "--format", "prometheus")
    assert "# EOF" not in older
    assert prometheus_families(older)


def test_a_textfile_is_replaced_in_one_step(running: Asyncrt, tmp_path: Path) -> None:
    path = tmp_path / "asyncrt.prom"
    path.write_text("old")
    before = path.stat().st_ino
    with path.open() as open_before:
        assert running.do("metrics", "--textfile", str(path)) == ""
        assert open_before.read() == "old"  # whoever reads it goes on reading that
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o644
    assert RUNNING in path.read_text()
    assert prometheus_families(path.read_text())
    assert os.listdir(tmp_path) == ["asyncrt.prom"]
    running.do("metrics", "--textfile", str(path), "--format", "openmetrics")
    assert path.read_text().endswith("# EOF\n")


def test_a_textfile_is_kept_up_to_date_until_interrupted(running: Asyncrt, tmp_path: Path) -> None:
    path = tmp_path / "asyncrt.prom"
    with running.start("metrics", "--textfile", path, "--interval", "0.05") as writing:
        seen: set[int] = set()
        while len(seen) < 3:
            time.sleep(0.005)  # the command tells nobody of a write
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
        writing.signal(signal.SIGINT)
        assert writing.end() == (128 + signal.SIGINT, "", "")


def _get(url: str, accept: str = "*/*") -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_they_are_served_anew_each_time_until_interrupted(running: Asyncrt) -> None:
    with running.start("metrics", "--listen", "127.0.0.1:0") as serving:
        line = serving.line()
        assert line.startswith("listening at http://127.0.0.1:")
        url = line.rpartition(" ")[2]
        kind, text = _get(url, "application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert RUNNING in text
        running.do("stop", "web")
        kind, text = _get(url)
        assert kind.startswith("text/plain")
        assert 'asyncrt_containers{status="stopped"} 1.0' in text
        serving.signal(signal.SIGINT)
        assert serving.end() == (128 + signal.SIGINT, "", "")


def test_other_machines_are_let_in_only_if_that_is_meant(running: Asyncrt) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:9180"):
        said = running.fails("metrics", "--listen", address, status=2)
        assert "--allow-remote" in said
    with running.start("metrics", "--listen", "0.0.0.0:0", "--allow-remote") as serving:
        assert serving.line().startswith("listening at http://0.0.0.0:")


def test_a_port_that_is_taken_is_one_line(running: Asyncrt) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = running.fails("metrics", "--listen", f"127.0.0.1:{port}")
        assert f"can't listen at 127.0.0.1:{port}: Address already in use" in said


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--listen", "9180"], 2, "isn't ADDRESS:PORT"),
        (["--listen", "example.org:80"], 2, "isn't ADDRESS:PORT"),
        (["--listen", "127.0.0.1:70000"], 2, "is no port"),
        (["--listen", "127.0.0.1:0", "--textfile", "x"], 2, "excludes"),
        (["--interval", "5"], 2, "--interval is for --textfile"),
        (["--textfile", "/nowhere/x.prom"], 1, "can't write /nowhere/x.prom: No such file"),
    ],
)
def test_what_cant_be_is_one_line(
    asyncrt: Asyncrt, arguments: list[str], status: int, why: str
) -> None:
    assert why in asyncrt.fails("metrics", *arguments, status=status)


def test_without_prometheus_client_it_says_what_to_install(
    asyncrt: Asyncrt, tmp_path: Path
) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('none')")
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    said = asyncrt.fails("metrics", env=env)
    assert said == ("asyncrt: metrics need prometheus_client: pip install 'asyncrt[metrics]'\n")
