"""Whether hooks ran when they had to, as often as they had to, and heard what was true.

They write a line each, to a file that all of a soak's have.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.soak.plans import FINE, HOOKS
from tests.soak.scene import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.soak.causes import Causes
    from tests.soak.scene import Scene
    from tests.soak.story import Stories

_STATUS = {"createRuntime": "creating", "poststart": "running", "poststop": "stopped"}
_ONCE = HOOKS[:2]


class Ran(NamedTuple):
    """One hook: which, of whom, and the state it heard."""

    kind: str
    mark: Mark
    state: dict[str, Any]


def read(scene: Scene) -> list[Ran]:
    """All that ran, in order."""
    found = []
    try:
        with open(scene.hooks_path, encoding="utf-8") as lines:
            for line in lines:
                kind, text, state = line.rstrip("\n").split(" ", 2)
                mark = Mark.parse(text)
                assert mark is not None
                found.append(Ran(kind, mark, json.loads(state)))
    except FileNotFoundError:
        pass
    return found


def wanting(scene: Scene, causes: Causes, stories: Stories) -> Iterator[str]:
    """What is wrong with the hooks, all containers being gone by now."""
    by_nonce: dict[str, list[Ran]] = defaultdict(list)
    for each in read(scene):
        by_nonce[each.mark.nonce].append(each)
        heard = each.state["id"], each.state["status"]
        if heard != (each.mark.id, _STATUS[each.kind]):
            yield f"a hook heard what isn't so: {each}"
        if each.kind != HOOKS[2] and not each.state.get("pid"):
            yield f"a hook heard of no process: {each}"
    for nonce, ran in by_nonce.items():
        kinds = [each.kind for each in ran]
        if kinds != sorted(kinds, key=HOOKS.index):
            yield f"hooks in this order: {kinds} of {ran[0].mark}"
        yield from (
            f"{kind} ran {kinds.count(kind)} times: {ran}"
            for kind in _ONCE
            if kinds.count(kind) > 1
        )
        last = kinds.count(HOOKS[2])
        if not last:
            yield f"nothing is left, and poststop never ran: {ran}"
        instance = causes.instance_of(nonce)
        if last > 1 and instance is not None and not causes.was_disturbed(stories.lives[instance]):
            yield f"poststop ran {last} times, and nobody was killed or cancelled: {ran}"
    for nonce, instance in causes.started():
        hooks = causes.facts_of(instance).get("hooks")
        if hooks == FINE and "poststart" not in {each.kind for each in by_nonce[nonce]}:
            yield f"it was started without its hook: {instance}"
