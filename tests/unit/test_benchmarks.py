from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import asyncrt
from benchmarks import __main__ as command
from benchmarks import (
    burst_heartbeat,
    contenders,
    life_from_big_engine,
    list_stopped,
    processes,
    programs,
    records,
    state_cycle,
    suite,
)
from benchmarks.figures import Figure, Series, jain, middle, quantile, ratio
from benchmarks.machine import describe
from benchmarks.question import Answer, Bench, Question, Skipped, at_least, at_most, shown
from benchmarks.report import Entry, Report, print_entries
from tests.helpers.records import names


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


def test_a_contender_that_got_nothing_done_is_infinitely_behind() -> None:
    found = ratio(_series(5, 5), _series(0, 0))
    assert found.value == float("inf")
    assert ratio(_series(0), _series(0)).value == 1


def test_a_figure_that_is_no_ratio_has_the_median_and_quartiles_of_its_rounds() -> None:
    assert middle([1, 2, 3, 4, 50]) == Figure(value=3, low=2, high=4)


def test_jains_index_is_1_for_equal_shares_and_1_in_n_when_one_has_it_all() -> None:
    assert jain([7, 7, 7, 7]) == 1
    assert jain([7, 0, 0, 0]) == 0.25
    assert jain([3, 1]) == 0.8
    assert jain([0, 0]) == 1  # nobody has more than anybody


@pytest.mark.parametrize(("goal", "reached"), [(4.0, True), (3.9, False)])
def test_a_figure_at_its_goal_or_below_has_reached_it(goal: float, reached: bool) -> None:
    assert at_most("", goal).reached_by(4.0) is reached


@pytest.mark.parametrize(("goal", "reached"), [(4.0, True), (4.1, False)])
def test_a_figure_that_should_be_high_has_to_be_as_high_as_its_goal(
    goal: float, reached: bool
) -> None:
    assert at_least("", goal).reached_by(4.0) is reached


def test_a_figure_without_a_goal_is_neither_reached_nor_missed() -> None:
    assert shown("", key="x").reached_by(4.0) is None


def test_a_question_that_this_machine_cannot_answer_says_what_is_missing() -> None:
    question = Question(name="q", wanted=(at_most("moon", 1),), measure=_impossible)
    entry = suite.ask(question, quick=True, console=Console(width=200, quiet=True))
    (row,) = entry.rows
    assert (row.figure, row.reached, row.skipped) == (None, None, "there is no moon")


@pytest.mark.parametrize("name", ["sandbox-life-beside-runsc", "sandbox-throughput"])
def test_a_question_whose_peer_is_not_installed_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    entry = suite.ask(suite.QUESTIONS[name], quick=True, smoke=True, console=Console(quiet=True))
    (row,) = entry.rows
    assert row.figure is None
    assert "isn't installed: apt-get install run" in row.skipped


def test_a_figure_that_is_lacking_leaves_the_others_and_says_why() -> None:
    question = Question(
        name="q", wanted=(at_most("a", 1, key="a"), at_most("b", 1, key="b")), measure=_four
    )
    answer = Answer(figures={"a": Figure(value=0.5)}, lacking={"b": "no Go"})
    first, second = Entry.of(question, answer).rows
    assert first.reached is True
    assert (second.figure, second.reached, second.skipped) == (None, None, "no Go")


def test_the_report_shows_every_figure_beside_its_goal_and_is_json(tmp_path: Path) -> None:
    answer = asyncio.run(_four(Bench("", quick=True)))
    wanted = {
        "good": at_most("good one", 4),
        "bad": at_most("bad one", 3),
        "high": at_least("high one", 4),
        "low": at_least("low one", 5),
        "free": shown("free one", key="ratio"),
    }
    questions = [
        Question(name=name, wanted=(each,), measure=_four) for name, each in wanted.items()
    ]
    entries = [Entry.of(each, answer, 1.5) for each in questions]
    entries.append(Entry.skipped(questions[0], "no moon"))
    console = Console(width=200, file=io.StringIO())
    print_entries(console, entries)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()

    def is_said(*words: str) -> bool:
        return any(all(word in line for word in words) for line in lines)

    assert is_said("good one", "<= 4.00", "reached")
    assert is_said("bad one", "<= 3.00", "missed")
    assert is_said("high one", ">= 4.00", "reached")
    assert is_said("low one", ">= 5.00", "missed")
    assert not is_said("free one", "reached")
    assert is_said("skipped", "no moon")
    assert "good: a note" in lines
    path = str(tmp_path / "new" / "result.json")
    report = Report(machine=describe("/"), quick=True, entries=entries, load_at_end=(0, 0, 0))
    report.save(path)
    assert Report.load(path) == report
    with open(path, encoding="utf-8") as file:
        saved = json.load(file)
    reached = [each["rows"][0]["reached"] for each in saved["entries"]]
    assert reached == [True, False, True, False, None, None]
    assert saved["entries"][0]["series"][0]["values"] == [4.0, 8.0]
    assert saved["machine"]["file_systems"]["/"]


def test_the_figures_a_question_wants_have_keys_of_their_own() -> None:
    for question in suite.QUESTIONS.values():
        keys = [each.key for each in question.wanted]
        assert len(set(keys)) == len(keys), question.name


@pytest.mark.parametrize("name", suite.QUESTIONS)
def test_every_question_is_answered_in_its_smallest_size(name: str) -> None:
    question = suite.QUESTIONS[name]
    entry = suite.ask(question, quick=True, smoke=True, console=Console(quiet=True))
    for row in entry.rows:
        # What is lacking says so, in words of its own: nobody forgot to measure it.
        assert row.figure is not None or row.skipped not in {"", "not measured"}, row
    assert entry.series or entry.tables or all(row.skipped for row in entry.rows)


def test_without_go_synchronous_python_is_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: str) -> str:
        raise Skipped("there is no Go toolchain (golang-go)")

    monkeypatch.setattr(state_cycle, "build", build)
    entry = suite.ask(state_cycle.QUESTION, quick=True, smoke=True, console=Console(quiet=True))
    rows = {row.wanted.key: row for row in entry.rows}
    assert rows["memory"].figure is not None
    assert rows["gvisor"].skipped == "there is no Go toolchain (golang-go)"
    assert any("synchronous Python" in each for each in entry.notes)


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
        command.main(["moon"])
    said = capsys.readouterr().err
    assert "moon" in said
    assert "list-live" in said


def test_the_list_of_questions_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for question in suite.QUESTIONS.values():
        assert question.name in said
        assert all(each.what in said for each in question.wanted)


def test_a_run_prints_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_RESULTS", tmp_path / "results")
    path = tmp_path / "mine.json"
    words = ["--smoke", "--json", str(path), "--plots", "-"]
    assert command.main([*words, "lock-uncontended"]) == 0
    said = capsys.readouterr().out
    assert "exclusive acquire+release / fcntl.flock" in said
    (kept,) = (tmp_path / "results").iterdir()
    assert kept.read_bytes() == path.read_bytes()
    assert Report.load(str(path)).entries[0].name == "lock-uncontended"


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
    assert names(own_root) == []
    shutil.rmtree(own_root)


async def test_plain_reading_and_list_find_the_same_stopped_containers(root: str) -> None:
    async with asyncrt.Engine(root) as engine:
        records.fill(Bench("", quick=True), root, 3)
        views = await engine.list()
        assert [each.id for each in views] == [records.name_of(each) for each in range(3)]
        assert all(each.status == "stopped" and each.exit is not None for each in views)
        assert len(list_stopped.read_plainly(root)) == 3
        for each in views:
            await engine.delete(each.id)


async def test_a_helper_is_as_big_as_it_was_asked_to_be(root: str, tmp_path: Path) -> None:
    true = programs.true(str(tmp_path))
    async with life_from_big_engine.interpreter(60, root, true) as helper:
        assert 60 <= life_from_big_engine.megabytes(helper) < 90
        assert await helper.once() > 0
    assert helper.process.returncode == 0
    for each in os.listdir(root):
        assert names(os.path.join(root, each)) == []
        shutil.rmtree(os.path.join(root, each))


def test_cpu_that_a_process_uses_is_counted_finely() -> None:
    before = processes.cpu_seconds(os.getpid())
    spent = time.thread_time()
    while time.thread_time() - spent < 0.002:
        pass
    assert processes.cpu_seconds(os.getpid()) - before >= 0.001
