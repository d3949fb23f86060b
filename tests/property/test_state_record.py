from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import SchemaTooNew, StateCorrupted
from asyncrt.state import Deletion, ExitResult, Identity, Record
from asyncrt.state.record import Original, decode, encode
from asyncrt.status import Status
from tests.helpers.records import make_record

moments = st.datetimes(timezones=st.just(UTC))
numbers = st.integers(0, 2**63 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
identities = st.builds(Identity, pid=numbers, start=numbers, boot=words, pidns=numbers)
exits = st.builds(
    ExitResult,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    oom_killed=st.none() | st.booleans(),
    reason=words,
    started_at=st.none() | moments,
    finished_at=st.none() | moments,
)
changes: dict[str, st.SearchStrategy[Any]] = {
    "revision": numbers,
    "status": st.sampled_from(Status),
    "paused_from": st.none() | st.sampled_from(Status),
    "created_at": moments,
    "started_at": st.none() | moments,
    "owner": words,
    "bundle": st.none() | words,
    "creator": st.none() | identities,
    "init": st.none() | identities,
    "supervisor": st.none() | identities,
    "gofer": st.none() | identities,
    "cgroups": st.lists(words, max_size=3).map(tuple),
    "deletion": st.none()
    | st.builds(
        Deletion,
        poststop=st.lists(st.sampled_from(["pending", "begun", "done"]), max_size=3).map(tuple),
    ),
    "exit": st.none() | exits,
}
records = st.builds(make_record, **changes)
finite = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
# A name that this version doesn't know, whatever else it is.
unknown = st.dictionaries(words.map("new_".__add__), json_values, min_size=1, max_size=3)


def round_trip(record: Record) -> Record:
    return decode(encode(record), "/root", record.id)


@given(records)
def test_every_record_comes_back_as_it_was(record: Record) -> None:
    again = round_trip(record)
    assert again == record
    assert Original.of(encode(record), again) is None


@given(records, unknown, unknown, st.sampled_from(sorted(changes)), st.data())
def test_unknown_fields_survive_wherever_nothing_was_changed(
    record: Record,
    on_top: dict[str, Any],
    nested: dict[str, Any],
    field: str,
    data: st.DataObject,
) -> None:
    newer = json.loads(encode(record)) | on_top
    objects = [name for name, value in newer.items() if isinstance(value, dict)]
    inside = [name for name in objects if name in Record.__struct_fields__]
    for name in inside:
        newer[name] |= nested
    raw = json.dumps(newer).encode()

    loaded = decode(raw, "/root", record.id)
    assert loaded == record
    original = Original.of(raw, loaded)
    assert original is not None
    setattr(loaded, field, data.draw(changes[field]))
    again = json.loads(original.encode(loaded))

    assert decode(json.dumps(again).encode(), "/root", record.id) == loaded
    for name, value in newer.items():
        if name != field or getattr(loaded, field) == getattr(record, field):
            assert again[name] == value


@given(records, st.data())
def test_no_damage_raises_anything_but_the_two_errors_that_name_the_file(
    record: Record, data: st.DataObject
) -> None:
    whole = encode(record)
    at = data.draw(st.integers(0, len(whole) - 1))
    until = data.draw(st.integers(at, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=6)) + whole[until:]
    try:
        decode(damaged, "/root", record.id)
    except (StateCorrupted, SchemaTooNew) as error:
        told = str(error)
    else:
        return
    assert told.startswith(f"/root/{record.id}.state ")


@given(json_values)
def test_no_json_value_is_taken_for_a_record_by_mistake(value: Any) -> None:
    with pytest.raises(StateCorrupted):
        decode(msgspec.json.encode(value), "/root", "web")
