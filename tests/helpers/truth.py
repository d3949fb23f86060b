"""What the product says of a root's containers, held against what the kernel says."""

from __future__ import annotations

from asyncrt.state import list_views, read_record
from tests.helpers import reality


def lies(root: str) -> list[str]:
    """Every container that is listed as what it isn't; ask again while a death is under way."""
    found = []
    for view in list_views(root):
        if view.broken is not None:
            found.append(f"broken: {view}")
            continue
        try:
            init = read_record(root, view.id).init
        except FileNotFoundError:
            continue  # removed meanwhile, as ContainerNotFound tells
        seen = reality.look(init.pid) if init is not None else None
        at_gate = seen is not None and seen.comm == "asyncrt:gate"
        # What was paused or resumed by somebody who was killed before the save may be either.
        true = {
            "creating": False,  # all creators are dead here
            "created": at_gate,
            "running": seen is not None and not at_gate,
            "paused": seen is not None,
            "stopped": seen is None,
        }
        if not true[str(view.status)]:
            found.append(f"{view.id} is {view.status}, but {seen}")
    return found
