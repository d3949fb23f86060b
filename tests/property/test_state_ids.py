from __future__ import annotations

import os
import re
import shutil
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt import _paths
from asyncrt.errors import AmbiguousId, ContainerNotFound, InvalidId
from asyncrt.ids import ContainerId, check_id, is_id, match_prefix
from asyncrt.state import find, list_ids
from tests.helpers.records import make_record, put_record

SUFFIXES = (_paths.LOCK, _paths.QUEUE, _paths.STATE, _paths.DIRECTORY)

alphabet = "abAB01_+.-"
ids = st.one_of(
    st.text(alphabet, min_size=1, max_size=6),
    # The likeliest to collide: ids that look like our own names.
    st.builds(str.__add__, st.text("ab.", max_size=2), st.sampled_from(SUFFIXES)),
).filter(is_id)
texts = st.one_of(ids, st.text(max_size=5), st.text(alphabet + "*?[]/~\n\0", max_size=5))


def files(container_id: str) -> set[str]:
    return {container_id + suffix for suffix in SUFFIXES}


@given(st.one_of(texts, st.text("ab", min_size=195, max_size=205)))
def test_an_id_is_what_the_design_says_and_nothing_else(text: str) -> None:
    wanted = re.fullmatch(r"[A-Za-z0-9_+.-]{1,200}", text, re.ASCII) is not None
    wanted = wanted and text not in {".", ".."}
    assert is_id(text) == wanted
    if wanted:
        assert check_id(text) == text
    else:
        with pytest.raises(InvalidId):
            check_id(text)


@given(ids, ids, st.integers(0, 3), st.integers(0, 3))
def test_no_two_ids_share_a_file(one: str, other: str, a: int, b: int) -> None:
    if (one, a) != (other, b):
        assert one + SUFFIXES[a] != other + SUFFIXES[b]
    assert not files(one) & {_paths.temporary(name) for name in files(other)}


@given(st.lists(ids, unique=True, max_size=6), texts)
def test_a_prefix_means_the_exact_id_else_the_only_one_it_starts(
    present: list[str], text: str
) -> None:
    containers = [ContainerId(each) for each in present]
    fitting = sorted(each for each in present if text and each.startswith(text))
    if text in present:
        assert match_prefix(containers, text) == text
    elif len(fitting) > 1:
        with pytest.raises(AmbiguousId) as caught:
            match_prefix(containers, text)
        assert list(caught.value.candidates) == fitting
    else:
        assert match_prefix(containers, text) == (fitting[0] if fitting else None)


@given(st.lists(ids, unique=True, max_size=5), st.lists(texts, max_size=4))
def test_what_is_on_disk_is_listed_and_found_and_nothing_else(
    present: list[str], wanted: list[str]
) -> None:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = tempfile.mkdtemp(prefix="asyncrt-test-", dir=base)
    try:
        for each in present:
            put_record(root, make_record(each))
            os.mkdir(f"{root}/{each}.d")
        assert list_ids(root) == sorted(present)
        for text in wanted:
            try:
                found = find(root, text)
            except (ContainerNotFound, AmbiguousId):
                fitting = [each for each in present if text and each.startswith(text)]
                assert text not in present
                assert len(fitting) != 1
            except InvalidId:
                assert not is_id(text)
            else:
                assert found in present
                assert found.startswith(text)
    finally:
        shutil.rmtree(root)
