"""Who kills: workers, supervisors and gofers, each noted down before it is done, and after."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from asyncrt import _procid
from asyncrt.errors import AsyncrtError
from asyncrt.state import list_ids, read_record

if TYPE_CHECKING:
    import random

    from asyncrt.state import Identity
    from tests.soak.oplog import OpLog
    from tests.soak.scene import Scene


class Killer:
    """Counts whom it killed."""

    def __init__(self, scene: Scene, log: OpLog, dice: random.Random) -> None:
        self._scene = scene
        self._log = log
        self._dice = dice
        self.killed: Counter[str] = Counter()

    def kill_one(self) -> bool:
        """One supervisor or gofer; False when it is a worker's turn, or there is no such process."""
        chance = self._dice.random()
        if chance < 0.3:
            return False
        role = "supervisor" if chance < 0.65 else "gofer"
        ids = list_ids(self._scene.root)
        self._dice.shuffle(ids)
        for id in ids:
            try:
                record = read_record(self._scene.root, id)
            except AsyncrtError:
                continue  # it went just now
            whom: Identity | None = getattr(record, role)
            if whom is None or not _procid.alive(whom):
                continue
            # It is noted for all of the sandbox: whom it supervises may not be told from the record.
            facts: dict[str, Any] = {
                "role": role,
                "pid": whom.pid,
                "id": record.sandbox if role == "supervisor" else record.id,
                "instance": record.instance,
            }
            self._log.write("killing", **facts)
            if _procid.send(whom, signal.SIGKILL):
                self.killed[f"{role}s"] += 1
            # We may be held up before it is done: who began meanwhile has died of it as well.
            self._log.write("killing", **facts)
            return True
        return False
