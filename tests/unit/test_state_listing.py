from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from asyncrt import _procid
from asyncrt.errors import AmbiguousId, ContainerNotFound, InvalidId, StorageFailed
from asyncrt.state import Identity, StateFile, find, list_ids, list_views
from asyncrt.state import listing as listing_module
from asyncrt.state import record as record_module
from asyncrt.status import Status
from tests.helpers.records import (
    dead_identity,
    make_record,
    own_identity,
    put_exit,
    put_record,
)

pytestmark = pytest.mark.leaves()

NOT_CONTAINERS = [
    "~events",
    "~events.1",
    "~events.lock",
    ".web.state.0123456789ab~",
    "web.d",
    "web.queue",
    "README",
    ".state",
    "..state",
    "a b.state",
    "x" * 201 + ".state",
]


def put(root: str, *ids: str) -> None:
    me = own_identity()
    for each in ids:
        put_record(root, make_record(each, init=me))


def test_ids_and_views_come_sorted_and_only_containers_are_listed(root: str) -> None:
    put(root, "web", "db", ".hidden", "a.state", "a.lock")
    for name in NOT_CONTAINERS:
        with open(f"{root}/{name}", "w"):
            pass
    expected = [".hidden", "a.lock", "a.state", "db", "web"]
    assert list_ids(root) == StateFile.list_ids(root) == expected
    assert [view.id for view in list_views(root)] == expected
    assert {view.status for view in list_views(root)} == {Status.RUNNING}


def test_nothing_is_listed_in_an_empty_root_and_a_missing_root_is_told(root: str) -> None:
    assert list_ids(root) == []
    assert list_views(root) == []
    for function in (list_ids, list_views):
        with pytest.raises(StorageFailed, match="No such file") as caught:
            function(f"{root}/missing")
        assert caught.value.path == f"{root}/missing"


def test_one_bad_record_is_told_and_hides_no_other(root: str) -> None:
    put(root, "good", "zood")
    for name, data in {"empty": b"", "torn": b'{"id": "torn"', "nul": b"\0" * 500}.items():
        with open(f"{root}/{name}.state", "wb") as file:
            file.write(data)
    put_record(root, make_record("newer", schema=9))
    os.mkdir(f"{root}/directory.state")
    os.symlink("good.state", f"{root}/link.state")
    os.mkfifo(f"{root}/fifo.state")
    put_record(root, make_record("exited", init=dead_identity()))
    put_exit(root, "exited", reason=7)

    views = {view.id: view for view in list_views(root)}

    bad = {"empty", "torn", "nul", "newer", "directory", "link", "fifo", "exited"}
    assert {each for each, view in views.items() if view.broken} == bad
    for each in bad:
        view = views[each]  # type: ignore[index]  # ids are text here
        assert view.status is None
        path = f"{root}/exited.d/exit.json" if each == "exited" else f"{root}/{each}.state"
        assert view.broken is not None
        assert path in view.broken
    assert views["good"].status is views["zood"].status is Status.RUNNING  # type: ignore[index]  # ids are text here


def test_a_container_destroyed_during_the_listing_is_left_out(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, "a", "b", "c")
    real = os.listdir

    def then_gone(path: Any) -> list[str]:
        found = real(path)
        os.unlink(f"{root}/b.state")
        return found

    monkeypatch.setattr(os, "listdir", then_gone)
    assert [view.id for view in list_views(root)] == ["a", "c"]


def test_a_container_destroyed_while_it_is_looked_at_is_left_out(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_record(root, make_record("a", init=dead_identity()))
    put(root, "b")
    real = record_module.decode

    def then_gone(data: bytes, where: str, container_id: str) -> Any:
        if container_id == "a":
            os.unlink(f"{root}/a.state")
        return real(data, where, container_id)

    monkeypatch.setattr(listing_module, "decode", then_gone)
    assert [view.id for view in list_views(root)] == ["b"]


def test_a_record_renamed_into_place_during_the_scan_isnt_missed(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, "a", "b")
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [n for n in real(path) if n != "b.state"])
    assert [view.id for view in list_views(root)] == ["a", "b"]
    assert list_ids(root) == ["a", "b"]


def test_a_lock_file_without_a_record_is_no_container(root: str) -> None:
    put(root, "a")
    with open(f"{root}/ghost.lock", "w"):
        pass
    assert list_ids(root) == ["a"]
    assert [view.id for view in list_views(root)] == ["a"]


def test_a_record_that_fills_several_reads_is_whole(root: str) -> None:
    for size in (4096, 8192, 70_000):
        record = make_record("big", init=own_identity(), bundle="")
        record.bundle = "x" * (size - len(msgspec.json.encode(record)))
        assert len(msgspec.json.encode(record)) == size
        put_record(root, record)
        assert [view.bundle for view in list_views(root)] == [record.bundle]


def test_a_record_without_an_end_is_told_as_broken_and_hides_no_other(root: str) -> None:
    """A hole of that size costs no disk; read to its end, it would cost all memory."""
    put_record(root, make_record("web"))
    path = f"{root}/endless.state"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    endless, web = list_views(root)
    assert (endless.id, web.id, web.broken) == ("endless", "web", None)
    assert endless.broken


def test_listing_leaves_no_descriptor_when_a_record_is_broken(root: str) -> None:
    os.mkdir(f"{root}/directory.state")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        list_views(root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_exact_id_wins_over_what_it_is_a_prefix_of(root: str) -> None:
    put(root, "example", "example1", "example2")
    assert find(root, "example") == "example"
    assert find(root, "example1") == "example1"


def test_an_exact_id_costs_no_scan(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "web")
    monkeypatch.delattr(os, "listdir")
    found = find(root, "web")
    monkeypatch.undo()
    assert found == "web"


def test_a_unique_prefix_is_resolved_and_an_ambiguous_one_tells_its_candidates(root: str) -> None:
    put(root, "web2", "web1", "db")
    assert find(root, "d") == "db"
    with pytest.raises(AmbiguousId) as caught:
        find(root, "we")
    assert caught.value.candidates == ("web1", "web2")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        *[(each, ContainerNotFound) for each in ("webb", ".", "..")],
        *[(each, InvalidId) for each in ("", "*", "w?b", "../web", "w\0", "we\n", "w" * 201)],
    ],
)
def test_what_fits_no_id_is_not_found_and_touches_nothing(
    root: str, text: str, error: type[Exception]
) -> None:
    put(root, "web")
    before = sorted(os.listdir(root))
    with pytest.raises(error):
        find(root, text)
    assert sorted(os.listdir(root)) == before


def test_a_broken_container_is_found_so_that_it_can_be_deleted(root: str) -> None:
    with open(f"{root}/broken.state", "w"):
        pass
    assert find(root, "bro") == "broken"


def test_the_pid_namespace_is_looked_up_once_for_all(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, *(f"c{n}" for n in range(20)))
    calls = 0
    real = _procid.pid_namespace

    def counted() -> int:
        nonlocal calls
        calls += 1
        return real()

    monkeypatch.setattr(_procid, "pid_namespace", counted)
    assert len(list_views(root)) == 20
    assert calls == 1


def test_identities_are_hashable_values() -> None:
    assert len({own_identity(), own_identity()}) == 1
    assert isinstance(own_identity(), Identity)
