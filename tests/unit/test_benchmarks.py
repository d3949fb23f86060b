from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import asyncrt
from benchmarks import __main__ as suite
from benchmarks import (
    burst_heartbeat,
    contenders,
    life_from_big_engine,
    list_stopped,
    processes,
    programs,
)
from benchmarks.figures import Series, quantile, ratio
from benchmarks.machine import describe
from benchmarks.question import Answer, Bench, Question, Skipped
from benchmarks.report import Entry, Report, print_entries


def _series(*values: float) -> Series:
    return Series(name="x", unit="ms", values=list(values))


async def _four(_: Bench) -> Answer:
    return Answer.of_ratio(_series(4.0, 8.0), _series(2.0, 1.0), notes=("a note",))


async def _impossible(_: Bench) -> Answer:
    raise Skipped("there is no moon")


def test_a_quantile_is_interpolated_between_its_neighbours() -> None:
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([4, 1, 3, 2], 0) == 1
    assert quantile([4, 1, 3, 2], 1) == 4
    assert quantile([7], 0.99) == 7


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    found = ratio(_series(2, 40, 6), _series(1, 10, 2))
    assert found.value == 3  # 6 / 2
    assert (found.low, found.high) == (2.5, 3.5)  # of 2, 4, 3


async def test_contenders_take_turns_and_change_the_order_each_round(tmp_path: Path) -> None:
    said: list[str] = []

    async def a() -> float:
        said.append("a")
        return 1.0

    async def b() -> float:
        said.append("b")
        return 2.0

    steps: list[tuple[int, int]] = []
    bench = Bench(str(tmp_path), quick=True, on_progress=lambda *each: steps.append(each))
    found = await bench.interleave({"a": a, "b": b}, 3)
    assert "".join(said) == "abbaab"
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("goal", "reached"), [(4.0, True), (3.9, False)])
def test_an_answer_at_its_goal_has_reached_it(goal: float, reached: bool) -> None:
    question = Question(name="q", what="", goal=goal, measure=_four)
    entry = Entry.of(question, asyncio.run(_four(Bench("", quick=True))))
    assert entry.answer is not None
    assert entry.answer.value == 4.0
    assert entry.reached is reached


def test_a_question_that_this_machine_cannot_answer_says_what_is_missing() -> None:
    console = Console(width=200, quiet=True)
    question = Question(name="q", what="moon", goal=1, measure=_impossible)
    entry = suite.ask(question, "/dev/shm", quick=True, console=console)
    assert (entry.answer, entry.reached, entry.skipped) == (None, None, "there is no moon")


def test_the_report_shows_every_figure_beside_its_goal_and_is_json(tmp_path: Path) -> None:
    questions = [
        Question(name="good", what="good one", goal=4, measure=_four),
        Question(name="bad", what="bad one", goal=3, measure=_four),
    ]
    answer = asyncio.run(_four(Bench("", quick=True)))
    entries = [Entry.of(each, answer) for each in questions]
    entries.append(Entry.of(questions[0], None, "no moon"))
    console = Console(width=200, file=io.StringIO())
    print_entries(console, entries)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any("good one" in each and "<= 4.00" in each and "reached" in each for each in lines)
    assert any("bad one" in each and "<= 3.00" in each and "missed" in each for each in lines)
    assert any("skipped" in each and "no moon" in each for each in lines)
    assert "good: a note" in lines
    path = tmp_path / "new" / "result.json"
    Report(machine=describe("/"), quick=True, entries=entries, load_at_end=(0, 0, 0)).save(
        str(path)
    )
    saved = json.loads(path.read_text())
    assert [each["reached"] for each in saved["entries"]] == [True, False, None]
    assert saved["entries"][0]["answer"]["series"][0]["values"] == [4.0, 8.0]
    assert saved["machine"]["file_systems"]["/"]


def test_every_question_of_the_suite_is_a_script_that_says_it() -> None:
    for name, question in suite.QUESTIONS.items():
        module = sys.modules[question.measure.__module__]
        assert module.__name__ == f"benchmarks.{name.replace('-', '_')}"
        assert module.__doc__ is not None
        assert module.__doc__.splitlines()[0].endswith("?")


def test_a_name_that_is_no_question_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        suite.main(["moon"])
    said = capsys.readouterr().err
    assert "moon" in said
    assert "list-live" in said


async def test_lives_beside_subprocesses_leave_nothing(root: str, tmp_path: Path) -> None:
    true = programs.true(str(tmp_path))
    async with contenders.scratch_engine(root) as engine:
        assert await contenders.live_and_die(engine, asyncrt.Spec.command([true])) > 0
        assert await contenders.run_subprocess([true]) > 0
        spec = asyncrt.Spec.command(programs.sleeper(str(tmp_path)))
        late, containers, seconds = await burst_heartbeat.beat_during(
            [lambda: contenders.start_one(engine, spec)] * 3
        )
        assert late
        assert max(late) < 60
        assert seconds > 0
        assert len(containers) == 3
        supervisors = processes.supervisors(engine.root)
        assert len(supervisors) == 3
        assert all(processes.unique_kilobytes(pid) > 0 for pid in supervisors)
        assert all(processes.cpu_seconds(pid) > 0 for pid in supervisors)
        helpers = processes.helpers(os.getpid(), engine.root)
        assert helpers
        assert not set(helpers) & set(supervisors)
        own_root = engine.root
    assert os.listdir(own_root) == []
    os.rmdir(own_root)


async def test_plain_reading_and_list_find_the_same_stopped_containers(root: str) -> None:
    async with asyncrt.Engine(root) as engine:
        await list_stopped.fill(Bench("", quick=True), root, 3)
        views = await engine.list()
        assert [each.id for each in views] == ["job-0", "job-1", "job-2"]
        assert all(each.status == "stopped" and each.exit is not None for each in views)
        assert len(list_stopped.read_plainly(root)) == 3
        for each in views:
            await engine.delete(each.id)


async def test_a_helper_is_as_big_as_it_was_asked_to_be(root: str, tmp_path: Path) -> None:
    true = programs.true(str(tmp_path))
    async with life_from_big_engine.interpreter(60, root, true) as (process, megabytes):
        assert 60 <= megabytes < 90
        assert await life_from_big_engine.one_life(process) > 0
    assert process.returncode == 0
    for each in os.listdir(root):
        os.rmdir(os.path.join(root, each))


def test_cpu_that_a_process_uses_is_counted_finely() -> None:
    before = processes.cpu_seconds(os.getpid())
    spent = time.thread_time()
    while time.thread_time() - spent < 0.002:
        pass
    assert processes.cpu_seconds(os.getpid()) - before >= 0.001
