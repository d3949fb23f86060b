"""State files with a record in them, made and removed."""

from __future__ import annotations

from typing import Any

from asyncrt.state import StateFile
from tests.helpers.records import (
    make_record,
    some_id,
)


async def made(root: str, id: str = "web", **changes: Any) -> StateFile:
    """A saved container; not locked."""
    state = StateFile(root, some_id(id))
    await state.lock_for_new()
    await state.save_locked(make_record(id, **changes))
    state.unlock()
    return state


async def remove(state: StateFile) -> None:
    if not state.locked:
        await state.lock()
    await state.destroy()
    state.close()
