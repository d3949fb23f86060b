"""JSON without the Python half of its module: the same is written and understood."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt import _cjson
from tests.helpers.processes import REPOSITORY, run_python

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_written_is_what_json_writes(value: Any) -> None:
    assert _cjson.dumps(value) == json.dumps(value)
    compact = _cjson.dumps(value, separators=(",", ":"))
    assert compact == json.dumps(value, separators=(",", ":"))
    assert _cjson.loads(compact) == value
    assert _cjson.loads(compact.encode()) == value


@given(st.text(alphabet='{}[]",:\\ \t\n0123456789.eE+-truefalsnNIity'))
def test_what_is_understood_is_what_json_understands(text: str) -> None:
    try:
        found = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            _cjson.loads(text)
    else:
        ours = _cjson.loads(text)
        assert repr(ours) == repr(found)


@pytest.mark.parametrize("text", ["", " ", "{", "1 2", "nul", '"\n"', b"\xff", "[1,]", '{"a"}'])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _cjson.loads(text)


def test_no_depth_is_too_deep_to_be_refused() -> None:
    with pytest.raises(RecursionError):
        _cjson.loads("[" * 100_000)


def test_infinity_and_nan_are_numbers_as_for_json() -> None:
    assert _cjson.loads("[Infinity, -Infinity]") == [math.inf, -math.inf]
    assert math.isnan(_cjson.loads("NaN"))
    assert _cjson.dumps([math.inf, math.nan]) == "[Infinity, NaN]"


def test_what_json_has_no_word_for_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="set is no JSON"):
        _cjson.dumps({"a": {1}})


def test_it_brings_nothing_along() -> None:
    code = f"""
import sys
sys.path.append({REPOSITORY!r})
from asyncrt import _cjson
print(_cjson.loads(_cjson.dumps([1])), *{{"json", "re", "enum"}} & set(sys.modules))
"""
    done = run_python(code, flags=("-I", "-S"))
    assert done.stdout.split() == ["[1]"], done.stderr


def test_what_is_no_json_is_a_value_error_where_the_other_half_isnt_there_too() -> None:
    """The C half looks for json's own error there: a supervisor ended for want of that."""
    texts = ["{", "[1", '"', '{"a"', '{"a":1,', '"\\u12"', '"\n"', "[" * 100_000]
    code = f"""
import sys
sys.path.append({REPOSITORY!r})
from asyncrt import _cjson
for text in {texts!r}:
    try:
        _cjson.loads(text)
    except (ValueError, RecursionError):
        print("refused")
"""
    done = run_python(code, flags=("-I", "-S"))
    assert done.stdout.split() == ["refused"] * len(texts), done.stderr
