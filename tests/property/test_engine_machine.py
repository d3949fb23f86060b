"""Whatever the order of verbs and of kills behind its back, the engine tells what is true.

The machine has rules for verbs and for accidents, on four ids; what must hold after every step, and
which witnesses say so, is in tests/helpers/machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import uuid
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

import asyncrt
from asyncrt import errors
from tests.helpers import reality
from tests.helpers.machine import IDS, NULL, Supervision, Watched
from tests.helpers.model import Exec, Modelled

if TYPE_CHECKING:
    from collections.abc import Callable

# What leads somewhere in each status; what occurs twice is wanted twice as often.
ANYWHERE = (
    "create",
    "exec",
    "kill",
    "stop",
    "somebody_kills_init",
    "somebody_kills_the_supervisor",
)
FROM = {
    "created": ("start", "start", "start", "start", "pause", "pause", *ANYWHERE),
    "running": ("pause", "pause", "pause", "exec", "destroy", *ANYWHERE),
    "paused": ("resume", "resume", "resume", "look_at_one", "destroy", *ANYWHERE),
    "stopped": ("destroy", "destroy", "wait_briefly", "create"),
}

ids = st.sampled_from(IDS)
some = st.integers(0, 11)  # one of those that are there
engines = st.sampled_from((0, 1))
signals = st.sampled_from((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM))


class Machine(Watched):
    """Verbs and accidents on four ids."""

    # Verbs

    @rule(id=ids, which=engines, supervision=st.sampled_from(("own", "caller", "own")))
    def create(self, id: str, which: int, supervision: Supervision) -> None:
        self.make(id, which, supervision)

    @rule(number=some, which=engines)
    def start(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("start")
        self.attempt(container.start(), refusal)
        if refusal is None:
            found.started()

    @rule(number=some, which=engines)
    def pause(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("pause")
        self.attempt(container.pause(), refusal)
        if refusal is None:
            found.paused()

    @rule(number=some, which=engines)
    def resume(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("resume")
        self.attempt(container.resume(), refusal)
        if refusal is None:
            found.resumed()
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(number=some, which=engines, sign=signals, all=st.booleans())
    def kill(self, number: int, which: int, sign: int, all: bool) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("kill all" if all else "kill")
        self.attempt(container.kill(sign, all=all), refusal)
        if refusal is None:
            self.after_signal(container, found, sign)
            if all and found.status == "running":
                found.execs.clear()

    @rule(number=some, which=engines)
    def kill_its_init_by_pid_and_nobody_elses(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("kill process")
        self.attempt(container.kill("KILL", pid=os.getpid()), refusal or errors.ProcessNotFound)
        self.attempt(container.kill("KILL", pid=found.init), refusal)
        if refusal is None:
            self.after_signal(container, found, signal.SIGKILL)

    def after_signal(self, container: asyncrt.Container, found: Modelled, number: int) -> None:
        if found.status != "stopped":
            found.signalled(number)
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(number=some, which=engines, grace_seconds=st.sampled_from((0, 10)))
    def stop(self, number: int, which: int, grace_seconds: int) -> None:
        container, found = self.one(number, which)
        refusal = found.refusal("stop")
        self.attempt(container.stop(grace_seconds=grace_seconds), refusal)
        if refusal is None:
            gentle = grace_seconds and found.status != "paused"
            found.ended(signal.SIGTERM if gentle else signal.SIGKILL)
            self.until_ended(container, found)

    @rule(number=some, which=engines, ignore_paused=st.booleans())
    def exec_something_short(self, number: int, which: int, ignore_paused: bool) -> None:
        container, found = self.one(number, which)
        refusal = self.refusal_of_exec(found, ignore_paused=ignore_paused)
        process = self.attempt(
            container.exec(["/bin/sh", "-c", "exit 7"], ignore_paused=ignore_paused, **NULL),
            refusal,
        )
        if process is not None:
            assert self.run(process.wait()).exit_code == 7
            assert self.run(process.wait()).exit_code == 7

    @rule(number=some, which=engines, ignore_paused=st.booleans())
    def exec_something_long(self, number: int, which: int, ignore_paused: bool) -> None:
        container, found = self.one(number, which)
        refusal = self.refusal_of_exec(found, ignore_paused=ignore_paused)
        mark = uuid.uuid4().hex
        process = self.attempt(
            container.exec(
                ["/bin/sleep", "1000"],
                env=reality.marking(mark, "exec"),
                ignore_paused=ignore_paused,
                **NULL,
            ),
            refusal,
        )
        if process is not None:
            found.execs.append(Exec(mark, process.pid))
            self.processes[mark] = process

    @staticmethod
    def refusal_of_exec(found: Modelled, *, ignore_paused: bool) -> type[Exception] | None:
        refusal = found.refusal("exec paused" if ignore_paused else "exec")
        return refusal or (None if found.supervised else errors.SandboxUnresponsive)

    @rule(number=some)
    def kill_an_exec(self, number: int) -> None:
        live = [(c, each) for c in self.model.containers.values() for each in c.execs]
        here = [(c, each) for c, each in live if each.mark in self.processes]
        if here:
            found, each = here[number % len(here)]
            process = self.processes.pop(each.mark)
            self.run(process.kill())
            found.execs.remove(each)
            for _ in range(2):
                assert self.run(process.wait()).signal == signal.SIGKILL

    @rule()
    def ask_how_execs_ended(self) -> None:
        """Whoever asks only after the whole container has ended hears it all the same."""
        live = {each.mark for c in self.model.containers.values() for each in c.execs}
        for mark in sorted(set(self.processes) - live):
            result = self.run(self.processes.pop(mark).wait())
            if mark not in self.model.unseen:
                assert (result.exit_code, result.signal) in {(None, 9), (None, 15)}

    @rule(number=some, which=engines)
    def wait_briefly(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.status == "stopped":
            self.until_ended(container, found)
        else:
            self.attempt(container.wait(timeout=0.001), TimeoutError)

    @rule(number=some, which=engines)
    def look_at_one(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        view = self.run(container.view())
        assert (view.id, view.status) == (found.id, found.status)
        assert self.run(container.state())["status"] == found.status
        refusal = found.refusal("ps")
        processes = self.attempt(container.processes(), refusal)
        if processes is not None:
            assert processes[0].pid == found.init
            execs = {each.pid for each in found.execs}
            assert {each.pid for each in processes} == {found.init} | execs

    @rule(number=some, which=engines)
    def destroy(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        self.run(container.destroy())
        self.model.removed(found.id)
        self.run(container.destroy())

    @rule(id=ids, which=engines, force=st.booleans())
    def delete(self, id: str, which: int, force: bool) -> None:
        found = self.model.get(id)
        if found is not None:
            refusal = None if force else found.refusal("delete")
            self.attempt(self.engines[which].delete(id, force=force), refusal)
            if refusal is None:
                self.model.removed(id)
        elif not any(each.startswith(id) for each in self.model.containers):
            refusal = None if force else errors.ContainerNotFound
            self.attempt(self.engines[which].delete(id, force=force), refusal)

    @rule(which=engines, text=st.sampled_from(("", "a", "ab", "abc", "abcd", "b", "c", "*")))
    def load(self, which: int, text: str) -> None:
        expected = self.model.found(text)
        if isinstance(expected, Modelled):
            loaded = self.run(self.engines[which].load(text))
            assert (loaded.id, loaded.instance) == (expected.id, expected.instance)
        else:
            self.attempt(self.engines[which].load(text), expected)

    # Accidents

    @rule(number=some, which=engines)
    def somebody_kills_init(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.status != "stopped":
            os.kill(found.init, signal.SIGKILL)
            found.ended(signal.SIGKILL)
            self.until_ended(container, found)

    @rule(number=some, which=engines)
    def somebody_kills_the_supervisor(self, number: int, which: int) -> None:
        container, found = self.one(number, which)
        if found.supervisor:
            # A process at its gate gives up by itself, unless it is stopped: nobody can tell it.
            frozen = found.paused_from == "created"
            os.kill(found.supervisor or 0, signal.SIGKILL)
            pid = found.init
            self.model.unseen |= {each.mark for each in found.execs}
            found.lost_supervisor()
            if frozen:
                os.kill(pid, signal.SIGKILL)
                found.signal = signal.SIGKILL
            if found.status == "stopped":
                self.until_ended(container, found)

    @rule(which=engines)
    def somebody_kills_a_fork_server(self, which: int) -> None:
        pid = self.engines[which]._context.launcher.server.pid
        if pid:
            os.kill(pid, signal.SIGKILL)

    @rule()
    def all_handles_are_forgotten(self) -> None:
        self.handles.clear()
        self.processes.clear()
        gc.collect()

    @rule(which=engines)
    def an_engine_is_closed_and_another_opened(self, which: int) -> None:
        self.run(self.engines[which].close())
        for key in [each for each in self.handles if each[0] == which]:
            del self.handles[key]
        self.processes.clear()
        self.engines[which] = asyncrt.Engine(self.root)
        self.run(self.engines[which].__aenter__())

    @rule(which=engines, verb=st.sampled_from(("start", "pause", "kill", "stop", "delete", "view")))
    def a_handle_of_a_replaced_instance_does_nothing(self, which: int, verb: str) -> None:
        for id, instance in self.model.gone[-2:]:
            engine = self.engines[which]
            old = asyncrt.Container(engine._context, asyncrt.ContainerId(id), instance)
            self.attempt(getattr(old, verb)(), errors.ContainerNotFound)
            self.run(old.destroy())

    # Left to itself Hypothesis mostly draws verbs that are refused: some steps are to lead somewhere.

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)

    @rule()
    def go_on(self) -> None:
        chance = self.chance
        number, which = chance.randrange(12), chance.randrange(2)
        _, found = self.one(number, which)
        step = chance.choice(FROM[found.status])
        if step == "exec":
            self.exec_something_long(number, which, chance.random() < 0.5)
        elif step == "kill":
            sign = chance.choice((signal.SIGTERM, signal.SIGKILL))
            self.kill(number, which, sign, chance.random() < 0.5)
        elif step == "stop":
            self.stop(number, which, 10)
        elif step == "create":
            self.make(chance.choice(IDS), which, chance.choice(("own", "caller")))
        else:
            getattr(self, step)(number, which)

    @rule()
    def go_on_and_on(self) -> None:
        for _ in range(3):
            self.go_on()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_engines_and_model_agree_whatever_happens(pytestconfig: pytest.Config, full: bool) -> None:
    class Configured(Machine):
        loop_factory = _loop_factory(pytestconfig)

    with contextlib.ExitStack() as stack:
        settings = hypothesis.settings(
            max_examples=200 if full else 30,
            stateful_step_count=30 if full else 20,
            derandomize=not full,
            deadline=None,
            database=None,
            # Shrinking replays hundreds of runs of real processes; the steps are printed anyway.
            phases=[hypothesis.Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        stack.callback(gc.collect)
        run_state_machine_as_test(Configured, settings=settings)


def _loop_factory(
    config: pytest.Config,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not config.getoption("--uvloop"):
        return None
    import uvloop

    return uvloop.new_event_loop
