"""Two users of one container, in any order of calls, against a model of what must be on disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncrt.errors import ContainerExists, ContainerNotFound, LockTimeout
from asyncrt.state import Record, StateFile, list_views
from asyncrt.status import Status
from tests.helpers.records import make_record, names, raw_record, some_id

actors = st.sampled_from([0, 1])


class TwoUsers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = tempfile.mkdtemp(prefix="asyncrt-test-", dir=base)
        self.loop = asyncio.new_event_loop()
        self.files = [StateFile(self.root, some_id()) for _ in range(2)]
        # The model
        self.holder: int | None = None
        self.loaded: Record | None = None  # by the holder, under this lock
        self.fresh = False  # the holder locked for new, and saved nothing yet
        self.gone = False  # the holder destroyed it
        self.saved: tuple[int, str] | None = None  # revision and owner that are on disk

    def teardown(self) -> None:
        for each in self.files:
            each.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def refused(self, work: Coroutine[Any, Any, Any], error: type[BaseException]) -> None:
        with pytest.raises(error):
            self.run(work)

    def taken(self, who: int, *, new: bool) -> None:
        self.holder, self.loaded, self.fresh, self.gone = who, None, new, False

    @rule(who=actors)
    def lock(self, who: int) -> None:
        work = self.files[who].lock(timeout=0)
        if self.holder == who:
            self.refused(work, RuntimeError)
        elif self.holder is not None:
            self.refused(work, LockTimeout)
        elif self.saved is None:
            self.refused(work, ContainerNotFound)
        else:
            self.run(work)
            self.taken(who, new=False)

    @rule(who=actors)
    def lock_for_new(self, who: int) -> None:
        work = self.files[who].lock_for_new(timeout=0)
        if self.holder == who:
            self.refused(work, RuntimeError)
        elif self.holder is not None:
            self.refused(work, LockTimeout)
        elif self.saved is not None:
            self.refused(work, ContainerExists)
        else:
            self.run(work)
            self.taken(who, new=True)

    @rule(who=actors)
    def load_locked(self, who: int) -> None:
        work = self.files[who].load_locked()
        if self.holder != who:
            self.refused(work, RuntimeError)
        elif self.saved is None:
            self.refused(work, ContainerNotFound)
        else:
            self.loaded = self.run(work)
            assert self.loaded is not None
            assert (self.loaded.revision, self.loaded.owner) == self.saved

    @rule(who=actors, owner=st.sampled_from(["ann", "bob"]))
    def save(self, who: int, owner: str) -> None:
        record = self.loaded
        if record is None or self.fresh:
            record = make_record(owner=owner)
        work = self.files[who].save_locked(record)
        if self.holder != who or (self.loaded is None and not self.fresh):
            self.refused(work, RuntimeError)
            return
        record.owner = owner
        self.run(work)
        self.loaded = record
        self.fresh = False
        self.saved = (record.revision, owner)

    @rule(who=actors)
    def save_what_was_read_without_the_lock(self, who: int) -> None:
        record = self.run(self.files[who].load()) if self.saved is not None else make_record()
        if self.fresh or (self.holder == who and self.loaded is not None):
            return  # what is on disk is what was loaded
        self.refused(self.files[who].save_locked(record), RuntimeError)

    @rule(who=actors)
    def destroy(self, who: int) -> None:
        work = self.files[who].destroy()
        if self.holder != who:
            self.refused(work, RuntimeError)
            return
        self.run(work)
        self.saved = self.loaded = None
        self.fresh, self.gone = False, True

    @rule(who=actors)
    def unlock(self, who: int) -> None:
        self.files[who].unlock()
        if self.holder == who:
            self.holder, self.loaded, self.fresh, self.gone = None, None, False, False

    @invariant()
    def what_is_on_disk_is_what_the_model_says(self) -> None:
        for who, each in enumerate(self.files):
            assert each.locked == (self.holder == who)
        views = list_views(self.root)
        if self.saved is None:
            assert views == []
            held = self.holder is not None and not self.gone
            assert names(self.root) == (["web.lock", "web.queue"] if held else [])
        else:
            assert [(view.id, view.owner) for view in views] == [("web", self.saved[1])]
            assert views[0].status is Status.STOPPED  # it names no init
            assert raw_record(self.root)["revision"] == self.saved[0]
            assert names(self.root) == ["web.lock", "web.queue", "web.state"]


TestTwoUsers = TwoUsers.TestCase
TestTwoUsers.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
