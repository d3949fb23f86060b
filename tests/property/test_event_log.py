"""Appends, torn lines, rotations and readers in any order: each line is told once, or its loss is."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asyncrt import _events, _paths
from asyncrt.errors import EventsLost
from asyncrt.state import EventLog, Position, Told, event_log
from tests.helpers.events import append_line, append_raw, make_line

PAGE = 700  # three lines or so


class Late(NamedTuple):
    """A writer that was stopped between its open and its write."""

    fd: int
    name: str


class Reader:
    """One that follows: its position, and what it was told."""

    def __init__(self, root: str, at: Position, expected: list[str]) -> None:
        self.log = EventLog(root, lambda fd: None)  # as one that waits for changes
        self.at = at
        self.told = Told()
        self.expected = (
            expected  # in the order they must come in; those of late writers at any time
        )
        self.seen: list[str] = []
        self.lost = False

    def read(self) -> bool:
        """Read a page; whether that may not have been the last."""
        page = self.log.read(self.at)
        self.seen += [each.id for each in page.events if self.told.is_news(each)]
        moved = page.position != self.at
        self.at = page.position
        return moved or page.more


class Machine(RuleBasedStateMachine):
    """One root's log, writers, rotations, a few readers."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="asyncrt-events-", dir="/dev/shm")
        self.count = 0
        self.order: list[str] = []  # as lines became part of the log
        self.late: list[Late] = []
        self.late_names: set[str] = set()
        self.generations = [self._generation()]
        self.positions: list[tuple[Position, int]] = []  # and how many lines are before it
        self.readers: list[Reader] = []
        self.begin_reader(None)

    def teardown(self) -> None:
        for each in self.late:
            os.close(each.fd)
        for reader in self.readers:
            if not self._falls_behind(reader):
                while reader.read():
                    pass
                self.all_of_it_once(reader)
        shutil.rmtree(self.root)

    def _generation(self) -> str:
        found = EventLog(self.root).begin(None)
        assert found is not None
        return found.generation

    def _name(self) -> str:
        self.count += 1
        return f"c{self.count}"

    @rule()
    def append(self) -> None:
        name = self._name()
        append_line(self.root, name)
        self.order.append(name)

    @rule(keep=st.integers(1, 150), ended=st.booleans())
    def killed_in_its_write(self, keep: int, ended: bool) -> None:
        """What it was about to write is lost; gc adds that. Whatever comes next isn't."""
        append_raw(self.root, make_line(f"torn{self.count}")[:keep] + (b"\n" if ended else b""))

    @precondition(lambda self: len(self.late) < 3)
    @rule()
    def a_writer_opens(self) -> None:
        fd = os.open(f"{self.root}/{_paths.EVENTS}", os.O_WRONLY | os.O_APPEND)
        self.late.append(Late(fd, self._name()))

    @precondition(lambda self: self.late)
    @rule()
    def it_writes_at_last(self) -> None:
        late = self.late.pop(0)
        line = make_line(late.name)
        os.write(late.fd, line)
        directory = os.open(self.root, os.O_RDONLY)
        if not _events.is_at(late.fd, _paths.EVENTS, directory):
            append_raw(self.root, line)
        os.close(directory)
        os.close(late.fd)
        self.order.append(late.name)
        self.late_names.add(late.name)

    @rule()
    def rotate(self) -> None:
        assert event_log.rotate(self.root)
        self.generations.append(self._generation())

    @rule(number=st.integers(0, 5))
    def read_a_page(self, number: int) -> None:
        reader = self.readers[number % len(self.readers)]
        if self._falls_behind(reader):
            with pytest.raises(EventsLost) as caught:
                reader.read()
            assert caught.value.position == str(reader.at)
            begins = EventLog(self.root).begin(event_log.OLDEST)
            assert caught.value.oldest == str(begins)
            self.readers.remove(reader)
            if not self.readers:
                self.begin_reader(None)
        else:
            reader.read()

    def _falls_behind(self, reader: Reader) -> bool:
        return reader.at.generation not in self.generations[-2:]

    @rule()
    def remember_where_it_ends(self) -> None:
        end = EventLog(self.root).begin(None)
        assert end is not None
        self.positions.append((end, len(self.order)))

    @precondition(lambda self: self.positions and len(self.readers) < 6)
    @rule(number=st.integers(0, 20))
    def another_begins_where_it_ended(self, number: int) -> None:
        position, before = self.positions[number % len(self.positions)]
        if position.generation in self.generations[-2:]:
            self.begin_reader(position, before)
        else:
            with pytest.raises(EventsLost):
                EventLog(self.root).begin(str(position))

    def begin_reader(self, position: Position | None, before: int | None = None) -> None:
        at = EventLog(self.root).begin(None if position is None else str(position))
        assert at is not None
        before = len(self.order) if before is None else before
        self.readers.append(Reader(self.root, at, self.order[:before]))

    @invariant()
    def nothing_is_told_twice(self) -> None:
        for reader in self.readers:
            assert len(reader.seen) == len(set(reader.seen))

    def all_of_it_once(self, reader: Reader) -> None:
        """What was there before it began it may have missed; all that came then it has seen."""
        wanted = self.order[len(reader.expected) :]
        assert set(wanted) <= set(reader.seen)
        prompt = [each for each in reader.seen if each not in self.late_names]
        assert prompt == [each for each in wanted if each not in self.late_names]


def test_every_line_is_told_once_whatever_is_appended_torn_rotated_and_read(
    monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    monkeypatch.setattr(event_log, "ROTATE_BYTES", 0)
    monkeypatch.setattr(event_log, "PAGE_BYTES", PAGE)
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=1500 if full else 60, stateful_step_count=60, deadline=None),
    )
