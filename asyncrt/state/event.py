"""One line of a root's log of events: a container's way from one status to the next.

A line is a JSON object. Its fields, stable but for new ones that may come:

    schema     1
    time       when it was written down, RFC 3339 in UTC
    id, instance, sandbox
    revision   of the record that was saved; missing where none was (an exit)
    operation  the verb that wrote it: create, start, pause, resume, destroy, delete, …; exit: the
               container's supervisor saw its end
    previous   the status before, null for a new container
    status     creating, created, running, paused, stopped, or destroyed
    exit       how it ended, as in an exit record; where the status is stopped and that is known

The first line of each file is a header instead, see asyncrt._events. After a writer that was killed
in its write, or met a full disk, the beginning of a line may stand before another line.

Lines of one instance come in the order of its life, with one exception: a supervisor needs no lock
to write down an end, and so may overtake the verb that started or paused what has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from asyncrt import _events, clock
from asyncrt.errors import SchemaTooNew
from asyncrt.state.exit_record import ExitResult, Moment, utc

DESTROYED: Final = "destroyed"
_STOPPED: Final = "stopped"


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A container's transition from the status `previous` (None: it is new) to `status`.

    `status` is one of Status or "destroyed". `operation` is the verb that led there; "exit": it
    ended by itself. `revision` is the saved record's, None for an exit. `exit` says how it ended,
    where `status` is stopped. `time` is aware and in UTC. `position` is where the log goes on after
    this event: give it to Engine.watch to resume there.
    """

    id: str
    instance: str
    sandbox: str
    revision: int | None
    time: Moment
    operation: str
    previous: str | None
    status: str
    exit: ExitResult | None
    position: str


class Line(msgspec.Struct, kw_only=True, gc=False):
    """A line as it is read. An older version leaves out what it doesn't know of a newer one's."""

    schema: int
    time: Moment
    id: str
    instance: str = ""
    sandbox: str = ""
    revision: int | None = None
    operation: str = ""
    previous: str | None = None
    status: str
    exit: ExitResult | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)

_BEGINNING = b'{"schema":'


def encode_event(
    *,
    id: str,
    instance: str,
    sandbox: str,
    revision: int,
    operation: str,
    previous: str | None,
    status: str,
    exit: ExitResult | None = None,
) -> bytes:
    """The line for a transition that was saved just now."""
    fields: dict[str, object] = {
        "schema": _events.SCHEMA,
        "time": clock.stamp(),
        "id": id,
        "instance": instance,
        "sandbox": sandbox,
        "revision": revision,
        "operation": operation,
        "previous": previous,
        "status": status,
    }
    if exit is not None and status == _STOPPED:
        fields["exit"] = exit
    return _encoder.encode(fields) + b"\n"


def decode_event(line: bytes, *, path: str, position: str) -> Event | None:
    """The event in a line, also behind the beginning of a torn one; None when there is none.

    Raises SchemaTooNew for a line of a newer asyncrt.
    """
    found = decode_line(line)
    if found is None:
        return None
    if found.schema > _events.SCHEMA:
        raise SchemaTooNew(path=path, schema=found.schema, supported=_events.SCHEMA)
    return Event(
        id=found.id,
        instance=found.instance,
        sandbox=found.sandbox,
        revision=found.revision,
        time=utc(found.time),
        operation=found.operation,
        previous=found.previous,
        status=found.status,
        exit=found.exit,
        position=position,
    )


def decode_line(line: bytes) -> Line | None:
    """The fields of a line, or of what stands behind the beginning of a torn one."""
    begins = 0
    while begins >= 0:
        try:
            return _decoder.decode(memoryview(line)[begins:])
        except (msgspec.DecodeError, ValueError, RecursionError):
            # What follows a torn line begins like every line. So does the exit inside of one, but
            # that is followed by more, and so doesn't decode.
            begins = line.find(_BEGINNING, begins + 1)
    return None


class Told:
    """What was told of each instance, so that nothing is told twice, or after what follows it.

    A line may stand in the log twice: its writer couldn't know whether it was read (see
    asyncrt._events), a supervisor's exit is saved again by the next verb, and gc adds what it finds
    missing. And an end may overtake the start that it ends. So an event is news when its revision is
    higher than all that was told of its instance, the end being higher than any revision, and
    the destruction higher still.

    Remembers those instances of which something was told last, at most `limit`.
    """

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._ranks: OrderedDict[str, int] = OrderedDict()

    def is_news(self, event: Event) -> bool:
        """Whether it is to be told; it counts as told from then on."""
        ranks = self._ranks
        if not event.instance:
            return True  # of a container whose record couldn't be read
        rank = _rank(event)
        if rank <= ranks.get(event.instance, -1):
            return False
        ranks[event.instance] = rank
        ranks.move_to_end(event.instance)
        if len(ranks) > self._limit:
            ranks.popitem(last=False)
        return True


def _rank(event: Event) -> int:
    if event.status == DESTROYED:
        return 1 << 62
    if event.status == _STOPPED:
        return 1 << 61
    return event.revision or 0
