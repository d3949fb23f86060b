"""Two queues (two loops or processes) on one lock, in any order of events, against a model."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncrt.locking import _queue
from asyncrt.locking._queue import BATCH, PathQueue, Ticket
from asyncrt.locking._take import Wish
from tests.helpers.lock_fake import FakeSystem

PATH, GATE = "/lock", "/lock.queue"


class Person:
    """Somebody who wants the lock, and what became of it."""

    def __init__(self, queue: PathQueue, wish: Wish, ticket: Ticket | None, order: int) -> None:
        self.queue = queue
        self.wish = wish
        self.ticket = ticket
        self.order = order
        self.generation: int | None = None  # of the lock file that is held

    @property
    def granted(self) -> bool:
        if self.ticket is None:
            return True
        future = self.ticket.future
        return (
            future.done()
            and not future.cancelled()
            and future.exception() is None
            and future.result()
        )


class Queues(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        _queue._skips[:] = [0] * len(_queue._skips)
        self.loop = asyncio.new_event_loop()
        self.system = FakeSystem()
        self.queues = [PathQueue(self.system, PATH, GATE, loop=self.loop) for _ in range(2)]
        self.waiting: list[Person] = []
        self.holding: list[Person] = []
        self.generation = 0
        self.order = 0

    # What people do

    @rule(number=st.integers(0, 1), shared=st.booleans(), create=st.booleans())
    def want(self, number: int, shared: bool, create: bool) -> None:
        queue = self.queues[number]
        wish = Wish(shared, 0o600 if create else None)
        self.order += 1
        try:
            if queue.try_take(wish):
                self.holding.append(Person(queue, wish, None, self.order))
                self.holding[-1].generation = self.generation
                return
        except FileNotFoundError:
            assert not create
            assert PATH not in self.system.files
            return
        self.waiting.append(Person(queue, wish, queue.enqueue(wish), self.order))

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(self.holding))
        self.holding.remove(person)
        person.queue.release()
        self.note()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), expire=st.booleans())
    def give_up(self, data: st.DataObject, expire: bool) -> None:
        person = data.draw(st.sampled_from(self.waiting))
        assert person.ticket is not None
        self.waiting.remove(person)
        if expire:
            person.queue.expire(person.ticket)
        else:
            person.ticket.future.cancel()
            person.queue.withdraw(person.ticket)
        self.note()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def cancel_a_granted_one(self, data: st.DataObject) -> None:
        people = [person for person in self.holding if person.ticket is not None]
        if people:
            person = data.draw(st.sampled_from(people))
            assert person.ticket is not None
            self.holding.remove(person)
            person.queue.expire(person.ticket)  # too late: the grant wins
            assert person.granted
            person.queue.withdraw(person.ticket)
            self.note()

    @precondition(lambda self: PATH in self.system.files)
    @rule()
    def unlink(self) -> None:
        del self.system.files[PATH]
        self.system.files.pop(GATE, None)
        self.generation += 1

    # What goes on by itself

    @precondition(lambda self: self.system.jobs)
    @rule(data=st.data())
    def let_a_thread_run(self, data: st.DataObject) -> None:
        self.system.step(data.draw(st.sampled_from(self.system.jobs)))

    @rule()
    def tick(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        self.note()

    def note(self) -> None:
        for person in list(self.waiting):
            assert person.ticket is not None
            future = person.ticket.future
            if not future.done():
                continue
            self.waiting.remove(person)
            if future.exception() is not None:
                assert isinstance(future.exception(), FileNotFoundError)
                assert person.wish.mode is None
            elif person.granted:
                # FIFO: nobody who came later to this queue is still waiting in front.
                person.generation = self.generation
                self.holding.append(person)
                earlier = [
                    other
                    for other in self.waiting
                    if other.queue is person.queue and other.order < person.order
                ]
                assert all(other.ticket and other.ticket.future.done() for other in earlier)

    # What must hold at any time

    @invariant()
    def holders_of_one_file_exclude_each_other(self) -> None:
        for generation in {person.generation for person in self.holding}:
            inside = [person for person in self.holding if person.generation == generation]
            assert len(inside) <= 1 or all(person.wish.shared for person in inside)

    @invariant()
    def each_queue_has_at_most_one_thread(self) -> None:
        assert len(self.system.jobs) <= len(self.queues)

    @invariant()
    def a_waiter_has_a_holder_inside_or_a_thread_under_way(self) -> None:
        for person in self.waiting:
            queue = person.queue
            assert queue._holders > 0 or queue._attempt is not None

    def teardown(self) -> None:
        try:
            # Everybody is served when all who hold let go in the end, however it stood before.
            for _ in range(20 * (len(self.waiting) + len(self.holding) + BATCH)):
                while self.holding:
                    self.holding.pop().queue.release()
                    self.note()
                for job in list(self.system.jobs):
                    self.system.step(job)
                self.tick()
                if not (self.waiting or self.holding or self.system.jobs):
                    break
            assert not self.waiting, "a lost wake-up"
            assert not self.system.jobs, "a thread left"
            self.system.idle.give_up()
            assert not self.system.fds, "a descriptor left"
            assert not any(self.system.locks.values()), "a lock left"
        finally:
            self.loop.close()


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
