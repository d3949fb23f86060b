"""What a killed creator or deleter leaves without a record: a forced delete takes it away."""

from __future__ import annotations

import os

import asyncrt
from asyncrt import _paths
from tests.helpers.containers import sleeper, started
from tests.helpers.records import names


def leave(root: str, *left: str) -> None:
    for name in left:
        path = f"{root}/{name}"
        if name.endswith(_paths.DIRECTORY):
            os.mkdir(path, 0o700)
            path += "/config.json"
        with open(path, "w"):
            pass


async def test_files_without_a_record_go_with_a_forced_delete(
    engine: asyncrt.Engine, root: str
) -> None:
    # In the order in which create makes them; a delete takes them away the other way round.
    left = ["web.lock", "web.queue", "web.d", ".web.state~"]
    for count in range(len(left) + 1):
        leave(root, *left[:count])
        await engine.delete("web", force=True)
        assert names(root) == []


async def test_a_forced_delete_of_one_that_is_missing_spares_its_longer_namesakes(
    engine: asyncrt.Engine, root: str
) -> None:
    container = await started(engine, "web2", sleeper())
    leave(root, "web.lock", "web.queue")
    await engine.delete("web", force=True)
    assert [(view.id, view.status) for view in await engine.list()] == [("web2", "running")]
    await container.destroy()
