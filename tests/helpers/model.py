"""What an engine should say and what should exist, told without looking at an engine.

The model knows what was asked for and what was done behind the engine's back. From these it says
which error a verb must raise, what every list must show, which files must be there and which
processes may live.
"""

from __future__ import annotations

import signal
import string
from dataclasses import dataclass, field

from asyncrt import errors

_LETTERS = set(string.ascii_letters + string.digits + "_+.-")  # of an id

LIVE = ("created", "running", "paused")

# Which statuses a verb is allowed in, from DESIGN's table and not from the product's.
ALLOWED = {
    "start": ("created",),
    "pause": ("created", "running"),
    "resume": ("paused",),
    "kill": LIVE,
    "kill all": (*LIVE, "stopped"),
    "kill process": ("running", "paused"),
    "stop": LIVE,
    "exec": ("created", "running"),
    "exec paused": LIVE,
    "ps": LIVE,
    "destroy": (*LIVE, "stopped"),
    "delete": ("stopped",),
}


@dataclass
class Exec:
    """A process that was exec'd and hasn't been seen to end."""

    mark: str
    pid: int
    paused: bool = False


@dataclass
class Modelled:
    """One container as it should be."""

    id: str
    instance: str
    mark: str
    supervision: str
    init: int
    supervisor: int | None
    status: str = "created"
    paused_from: str = ""
    pending: int = 0  # a signal that a paused init will get when it goes on
    signal: int | None = None  # what ended it
    exit_known: bool = True
    execs: list[Exec] = field(default_factory=list)

    @property
    def supervised(self) -> bool:
        """Whether a supervisor of its own lives."""
        return self.supervisor is not None

    def refusal(self, operation: str) -> type[Exception] | None:
        """The error of a verb that its status doesn't allow."""
        return None if self.status in ALLOWED[operation] else errors.InvalidTransition

    def started(self) -> None:
        self.status = "running"

    def paused(self) -> None:
        self.status, self.paused_from = "paused", self.status
        for each in self.execs:
            each.paused = self.supervised

    def resumed(self) -> None:
        self.status, self.paused_from = self.paused_from, ""
        for each in self.execs:
            each.paused = False
        if self.pending:
            self.ended(self.pending)

    def signalled(self, number: int) -> None:
        """Init got a signal that ends it; a paused one gets all but KILL when it goes on."""
        if self.status == "stopped":
            return
        if self.status == "paused" and number != signal.SIGKILL:
            self.pending = self.pending or number
        else:
            self.ended(number)

    def ended(self, number: int) -> None:
        """Init ended, and everything else of the container with it."""
        self.status, self.paused_from, self.pending = "stopped", "", 0
        self.signal = number
        self.exit_known = self.supervised
        self.supervisor = None
        self.execs.clear()

    def lost_supervisor(self) -> None:
        """Its supervisor was killed: a started init goes on, one at its gate gives up."""
        self.supervisor = None
        self.execs.clear()
        if "created" in (self.status, self.paused_from):
            self.status, self.paused_from, self.pending = "stopped", "", 0
            self.signal, self.exit_known = None, False

    def files(self) -> set[str]:
        """The files that are explained by it."""
        names = {f"{self.id}{suffix}" for suffix in (".lock", ".state", ".d")}
        return names | {f"{self.id}.d/config.json"}

    def may_have(self) -> set[str]:
        """Files that it may have besides."""
        inside = ("control.sock", "gate.sock", "exit.json")
        return {f"{self.id}.queue"} | {f"{self.id}.d/{name}" for name in inside}


class Model:
    """All containers of one root."""

    def __init__(self) -> None:
        self.containers: dict[str, Modelled] = {}
        self.gone: list[tuple[str, str]] = []  # id and instance of those that were removed
        self.unseen: set[str] = set()  # marks of execs whose supervisor couldn't see their end

    def get(self, id: str) -> Modelled | None:
        return self.containers.get(id)

    def removed(self, id: str) -> None:
        found = self.containers.pop(id)
        self.gone.append((found.id, found.instance))

    def found(self, text: str) -> Modelled | type[Exception]:
        """What an abbreviated id means: an exact one always wins, one that can't be is a mistake."""
        if not text or not set(text) <= _LETTERS:
            return errors.InvalidId
        if text in self.containers:
            return self.containers[text]
        found = [each for id, each in self.containers.items() if id.startswith(text)]
        if not found:
            return errors.ContainerNotFound
        return found[0] if len(found) == 1 else errors.AmbiguousId

    def list(self) -> list[tuple[str, str, str, str]]:
        """Id, instance, status and supervision of each, sorted by id."""
        return [
            (each.id, each.instance, each.status, each.supervision)
            for _, each in sorted(self.containers.items())
        ]

    def wrong_files(self, names: set[str]) -> str:
        """Which of the files on disk no record explains, and which should be there and aren't."""
        required = {name for each in self.containers.values() for name in each.files()}
        allowed = {name for each in self.containers.values() for name in each.may_have()}
        extra, missing = names - required - allowed, required - names
        return (
            f"unexplained: {sorted(extra)}, missing: {sorted(missing)}" if extra | missing else ""
        )
