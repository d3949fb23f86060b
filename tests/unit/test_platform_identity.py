"""Which user and groups a process may become, judged before it is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from asyncrt.oci import Spec, User
from asyncrt.platforms import _identity, host
from tests.helpers.capabilities import User as Account
from tests.helpers.host_specs import refused, spec_of
from tests.helpers.processes import REPOSITORY


class Credentials:
    """This process as the platform sees it, made up."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        uid: int = 1000,
        gid: int = 1000,
        groups: tuple[int, ...] = (1000,),
        capable: tuple[int, ...] = (),
        mapped: range = range(2**32),
        setgroups: bool = True,
    ) -> None:
        monkeypatch.setattr(os, "getresuid", lambda: (uid, uid, uid))
        monkeypatch.setattr(os, "getresgid", lambda: (gid, gid, gid))
        monkeypatch.setattr(os, "getgroups", lambda: list(groups))
        monkeypatch.setattr(_identity, "_has_capability", lambda number: number in capable)
        monkeypatch.setattr(_identity, "_is_mapped", lambda number, name: number in mapped)
        monkeypatch.setattr(_identity, "_setgroups_allowed", lambda: setgroups)


CAPABLE = (_identity._CAP_SETGID, _identity._CAP_SETUID)


def identity(uid: int, gid: int, *groups: int) -> _identity.Identity:
    return _identity.plan_identity(User(uid=uid, gid=gid, additional_gids=groups), "process")


def test_asking_for_what_one_is_plans_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch, groups=(1000, 27))
    assert identity(1000, 1000, 27) == (None, None, None, [])
    assert identity(1000, 1000, 27, 1000) == (None, None, None, [])
    assert identity(1000, 1000) == (None, None, None, [])  # none asked for, can't drop


def test_an_unprivileged_process_may_ask_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch, groups=(1000, 27))
    assert identity(0, 0).refused == ["process.user.uid", "process.user.gid"]
    assert identity(1001, 1000).refused == ["process.user.uid"]
    assert identity(1000, 27).refused == ["process.user.gid"]
    assert identity(1000, 1000, 28).refused == ["process.user.additionalGids"]


def test_ids_that_are_only_effective_are_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch)
    monkeypatch.setattr(os, "getresuid", lambda: (1000, 1001, 1000))
    monkeypatch.setattr(os, "getresgid", lambda: (1000, 1001, 1000))
    assert identity(1001, 1001) == (1001, 1001, None, [])


def test_root_drops_the_groups_it_has_and_takes_those_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Credentials(monkeypatch, uid=0, gid=0, groups=(0, 4), capable=CAPABLE)
    assert identity(33, 34) == (33, 34, [], [])
    assert identity(33, 34, 8, 7) == (33, 34, [7, 8], [])
    assert identity(0, 0) == (None, None, [], [])
    assert identity(0, 0, 4) == (None, None, None, [])


def test_groups_are_dropped_even_when_the_new_gid_is_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Credentials(monkeypatch, uid=0, gid=0, groups=(0, 4), capable=CAPABLE)
    assert identity(33, 4) == (33, 4, [], [])
    Credentials(monkeypatch, uid=0, gid=0, groups=(4,), capable=CAPABLE)
    assert identity(33, 4) == (33, 4, None, [])


def test_uid_0_without_capabilities_is_nobody_special(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch, uid=0, gid=0, groups=())
    assert identity(33, 34, 5).refused == [
        "process.user.uid",
        "process.user.gid",
        "process.user.additionalGids",
    ]


def test_each_capability_counts_for_its_own_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch, capable=(_identity._CAP_SETUID,))
    assert identity(33, 34).refused == ["process.user.gid"]
    Credentials(monkeypatch, capable=(_identity._CAP_SETGID,))
    assert identity(33, 34, 5).refused == ["process.user.uid"]


def test_ids_the_user_namespace_lacks_are_refused_even_to_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Credentials(monkeypatch, uid=0, gid=0, groups=(), capable=CAPABLE, mapped=range(1000))
    assert identity(1000, 1001, 7, 1002).refused == [
        "process.user.uid",
        "process.user.gid",
        "process.user.additionalGids[1]",
    ]


def test_a_namespace_that_forbids_setgroups_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    Credentials(monkeypatch, uid=0, gid=0, groups=(), capable=CAPABLE, setgroups=False)
    assert identity(0, 0, 5).refused == ["process.user.additionalGids"]
    assert identity(0, 0) == (None, None, None, [])


def test_refused_identities_are_named_with_everything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Credentials(monkeypatch)
    assert refused(spec_of({"user": {"uid": 0, "gid": 1000}}, hostname="h")) == (
        "process.user.uid",
        "hostname",
    )


_PLAN_AS = """
import json, os, sys
from asyncrt.errors import SpecUnsupported
from asyncrt.oci import Spec
from asyncrt.platforms import host
from tests.helpers.host_specs import refused, spec_of
try:
    plan = host.plan(Spec.command(["true"], user=sys.argv[1]))
    print(json.dumps([plan["uid"], plan["gid"], plan["groups"]]))
except SpecUnsupported as error:
    print(json.dumps(error.fields))
"""


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("0:0", ["process.user.uid", "process.user.gid"]),
        ("{uid}:0", ["process.user.gid"]),
        ("{uid}:{gid}", [None, None, None]),
        ("{uid}", [None, None, None]),
        ("{name}", [None, None, None]),
    ],
)
def test_what_an_ordinary_user_may_ask_for_is_what_the_kernel_allows_it(
    ordinary_user: Account, user: str, wanted: list[object]
) -> None:
    text = user.format(uid=ordinary_user.uid, gid=ordinary_user.gid, name=ordinary_user.name)
    # Imported before it becomes another user, who may not be able to read the sources.
    drop = f"os.setgroups([]); os.setgid({ordinary_user.gid}); os.setuid({ordinary_user.uid})\n"
    script = _PLAN_AS.replace("try:", f"{drop}try:", 1)
    done = subprocess.run(
        [sys.executable, "-c", script, text],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == wanted


@pytest.mark.needs_root
def test_root_may_become_an_ordinary_user(ordinary_user: Account) -> None:
    plan = host.plan(Spec.command(["true"], user=f"{ordinary_user.uid}:{ordinary_user.gid}"))
    assert (plan["uid"], plan["gid"]) == (ordinary_user.uid, ordinary_user.gid)


def test_the_probes_read_this_kernels_files() -> None:
    assert _identity._is_mapped(os.geteuid(), "uid_map")
    assert not _identity._is_mapped(2**32 - 1, "uid_map")
    assert isinstance(_identity._setgroups_allowed(), bool)
    assert not _identity._has_capability(63)


# -- choosing
