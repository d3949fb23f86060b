"""An init's cgroups, where its creator is gone by the time that they are made."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from asyncrt.launch.gate import NobodyWants
from asyncrt.launch.own_cgroups import Cgroups
from tests.helpers.cgroups import holder, unique

if TYPE_CHECKING:
    from asyncrt.launch.plan import ProcessPlan

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroups]


@pytest.mark.parametrize("goes", ["close", "shutdown"])
def test_an_init_whose_creator_has_gone_leaves_no_cgroup(goes: str) -> None:
    """Who cleared up after the creator found none: nobody would come for them again."""
    top, path = holder().top, holder().top + unique()
    place: Any = {"top": top, "path": path, "enable": {}, "cpuset": False}
    plan: ProcessPlan = {"cgroup": {"places": [place], "writes": [], "devices": None}}  # type: ignore[typeddict-item]  # all that is looked at
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if goes == "close":
            theirs.close()
        else:
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(NobodyWants):
            Cgroups(plan, ours, None, opened=True)  # type: ignore[arg-type]  # nobody is asked
    assert not os.path.lexists(path)
