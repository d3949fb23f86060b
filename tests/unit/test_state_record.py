from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from asyncrt.errors import ContainerNotFound, SchemaTooNew, StateCorrupted
from asyncrt.state import Deletion, ExitResult, Identity, Record, read_record
from asyncrt.state.record import Original, decode, encode
from asyncrt.status import Status
from tests.helpers.records import MOMENT, make_record, own_identity, put_record

pytestmark = pytest.mark.leaves()


def full_record() -> Record:
    me = own_identity()
    return make_record(
        revision=12,
        status=Status.STOPPED,
        paused_from=Status.RUNNING,
        started_at=MOMENT,
        owner="a-long-user-name-of-32-characters",
        bundle="/var/lib/orchestrator/bundles/" + "x" * 64,
        creator=me,
        init=me,
        supervisor=me,
        gofer=me,
        cgroups=("/sys/fs/cgroup/user.slice/user-1000.slice/web", "/sys/fs/cgroup/web"),
        deletion=Deletion(poststop=("done", "begun", "pending")),
        exit=ExitResult(signal=9, reason="signal", started_at=MOMENT, finished_at=MOMENT),
    )


def decode_json(value: Any) -> Record:
    return decode(json.dumps(value).encode(), "/root", "web")


def as_json(record: Record) -> Any:
    return json.loads(encode(record))


def test_a_record_comes_back_as_it_was_and_stays_below_2_kb(root: str) -> None:
    record = full_record()
    put_record(root, record)
    assert read_record(root, "web") == record
    assert len(encode(record)) < 2048


def test_moments_are_aware_and_in_utc() -> None:
    record = decode(encode(full_record()), "/root", "web")
    assert record.created_at == datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)
    assert record.created_at.utcoffset() is not None
    naive = as_json(full_record()) | {"created_at": "2026-01-31T12:00:00"}
    with pytest.raises(StateCorrupted, match=r"\$\.created_at"):
        decode_json(naive)


def test_a_missing_record_is_no_container(root: str) -> None:
    with pytest.raises(ContainerNotFound) as caught:
        read_record(root, "web")
    assert (caught.value.container_id, caught.value.root) == ("web", root)
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"\0" * 800, "malformed JSON: Expecting value at line 1, column 1"),
        (
            b"{",
            "malformed JSON: Expecting property name enclosed in double quotes at line 1, column 2",
        ),
        (b"[]", "Expected `object`"),
        (b'"web"', "Expected `object`"),
        (b"{}", "missing required field"),
        (b"\xff\xfe{}", "not UTF-8: byte 0xff at line 1, column 1"),
        (b'{"id": "\xff"}', "not UTF-8: byte 0xff at line 1, column 9"),
        (b'{"x":' + b"[" * 100_000, ""),
        (encode(full_record())[:-20], "malformed JSON: "),
    ],
)
def test_a_torn_or_foreign_file_is_corrupt_and_named(root: str, data: bytes, why: str) -> None:
    path = f"{root}/web.state"
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(StateCorrupted) as caught:
        read_record(root, "web")
    assert caught.value.path == path
    assert path in str(caught.value)
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("$.revision", {"revision": "7"}),
        ("$.status", {"status": "flying"}),
        ("$.init.start", {"init": {"pid": 1, "start": None, "boot": "x", "pidns": 1}}),
        ("$.cgroups[1]", {"cgroups": ["/a", 7]}),
        ("$.deletion.poststop[0]", {"deletion": {"poststop": ["half"]}}),
        ("$.exit.finished_at", {"exit": {"finished_at": "yesterday"}}),
        ("$.id", {"id": "other"}),
        ("$.schema", {"schema": 0}),
    ],
)
def test_a_wrong_value_is_named_by_its_json_path(where: str, change: dict[str, Any]) -> None:
    with pytest.raises(StateCorrupted) as caught:
        decode_json(as_json(full_record()) | change)
    assert where in str(caught.value)
    assert "/root/web.state" in str(caught.value)


@pytest.mark.parametrize("also", [{}, {"status": "hibernating"}, {"init": "elsewhere"}])
def test_a_newer_schema_is_refused_by_name_even_if_nothing_else_fits(also: dict[str, Any]) -> None:
    with pytest.raises(SchemaTooNew) as caught:
        decode_json(as_json(full_record()) | {"schema": 2} | also)
    assert (caught.value.schema, caught.value.supported) == (2, 1)
    assert caught.value.path == "/root/web.state"


@pytest.mark.parametrize("make", ["directory", "link", "fifo"])
def test_what_is_no_regular_file_is_corrupt_and_never_blocks(root: str, make: str) -> None:
    path = f"{root}/web.state"
    if make == "directory":
        os.mkdir(path)
    elif make == "link":
        put_record(root, make_record("other"))
        os.symlink("other.state", path)
    else:
        os.mkfifo(path)
    with pytest.raises(StateCorrupted) as caught:
        read_record(root, "web")
    assert caught.value.path == path


def test_a_record_without_anything_unknown_needs_no_keeping() -> None:
    data = encode(full_record())
    assert Original.of(data, decode(data, "/root", "web")) is None


def test_what_a_newer_version_added_survives_our_rewriting() -> None:
    newer = as_json(full_record())
    newer["mood"] = {"deep": [1, 2.50, {"x": None}]}
    newer["exit"]["core_dumped"] = True
    newer["init"]["namespace_name"] = "blue"
    data = json.dumps(newer).encode()
    record = decode(data, "/root", "web")
    original = Original.of(data, record)
    assert original is not None

    record.status = Status.PAUSED
    record.init = Identity(pid=7, start=7, boot="b", pidns=7)
    again = json.loads(original.encode(record))

    assert again["mood"] == newer["mood"]
    assert again["exit"] == newer["exit"]
    assert again["status"] == "paused"
    assert again["init"] == {"pid": 7, "start": 7, "boot": "b", "pidns": 7}
    assert {k: v for k, v in again.items() if k not in {"status", "init"}} == {
        k: v for k, v in newer.items() if k not in {"status", "init"}
    }


def test_a_field_that_an_older_version_left_out_is_added() -> None:
    older = as_json(full_record())
    del older["gofer"], older["deletion"]
    data = json.dumps(older).encode()
    record = decode(data, "/root", "web")
    original = Original.of(data, record)
    assert original is not None
    record.deletion = Deletion(poststop=("begun",))
    again = json.loads(original.encode(record))
    assert again["deletion"] == {"poststop": ["begun"]}
    assert again["gofer"] is None


def test_a_deletion_moves_on_hook_by_hook() -> None:
    begun = Deletion(poststop=("pending", "pending")).with_hook(0, "begun")
    assert begun.poststop == ("begun", "pending")
    assert begun.with_hook(1, "done").poststop == ("begun", "done")


def test_nested_values_are_frozen() -> None:
    record = full_record()
    for value in (record.init, record.deletion, record.exit):
        assert value is not None
        with pytest.raises(AttributeError):
            setattr(value, value.__struct_fields__[0], 1)


def test_the_format_on_disk_is_what_other_programs_were_told() -> None:
    assert list(as_json(full_record())) == [
        "schema",
        "revision",
        "id",
        "instance",
        "sandbox",
        "status",
        "paused_from",
        "created_at",
        "started_at",
        "owner",
        "uid",
        "bundle",
        "platform",
        "supervision",
        "creator",
        "init",
        "supervisor",
        "gofer",
        "cgroups",
        "cgroup",
        "layer",
        "hooks",
        "logs",
        "terminal",
        "unpivoted",
        "protocol",
        "oom_score_adj",
        "lease",
        "deletion",
        "exit",
    ]
    assert as_json(full_record())["created_at"] == "2026-01-31T12:00:00.000001Z"
    assert set(as_json(full_record())["init"]) == {"pid", "start", "boot", "pidns"}


def test_the_identity_of_a_process_that_is_gone_is_none() -> None:
    assert Identity.of(2**22 + 1) is None
    assert msgspec.to_builtins(own_identity())["pid"] == os.getpid()
