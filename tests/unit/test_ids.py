from __future__ import annotations

import pytest

from asyncrt.errors import AmbiguousId, InvalidId
from asyncrt.ids import MAX_LENGTH, ContainerId, check_id, is_id, match_prefix


def ids(*texts: str) -> list[ContainerId]:
    return [ContainerId(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["a", "web-1", "a.b+c_d-E9", "...", ".hidden", "-", "web.state", "web.lock", "0"]
)
def test_ascii_letters_digits_and_the_four_marks_make_an_id(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (".", "names a directory"),
        ("..", "names a directory"),
        ("a\n", "'\\n'"),
        ("\na", "'\\n'"),
        ("a/b", "'/'"),
        ("a\0", "'\\x00'"),
        ("a b", "' '"),
        ("a~", "'~'"),
        ("*", "'*'"),
        ("a\u0661", "'\u0661'"),
        ("é", "'é'"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, why: str) -> None:
    assert not is_id(text)
    with pytest.raises(InvalidId) as caught:
        check_id(text)
    assert why in str(caught.value)
    assert caught.value.container_id == text
    assert isinstance(caught.value, ValueError)


def test_an_id_has_at_most_200_bytes() -> None:
    assert check_id("x" * MAX_LENGTH)
    with pytest.raises(InvalidId, match="201 characters"):
        check_id("x" * (MAX_LENGTH + 1))
    # The longest name made from an id still fits in a directory entry.
    assert MAX_LENGTH + len(".") + len(".state") + len(".") + 12 + len("~") <= 255


def test_an_id_that_is_a_prefix_of_another_still_means_itself() -> None:
    assert match_prefix(ids("example1", "example", "example2"), "example") == "example"


def test_a_unique_prefix_is_resolved_and_nothing_else_is_hit() -> None:
    assert match_prefix(ids("ab", "a-pod", "b"), "a-") == "a-pod"
    assert match_prefix(ids("example1"), "example1x") is None


def test_an_ambiguous_prefix_tells_its_candidates() -> None:
    with pytest.raises(AmbiguousId) as caught:
        match_prefix(ids("web2", "db", "web1"), "we")
    assert caught.value.candidates == ("web1", "web2")


@pytest.mark.parametrize("text", ["", "*", "w*", "?eb", "[w]eb", "."])
def test_the_empty_prefix_and_patterns_match_nothing(text: str) -> None:
    assert match_prefix(ids("web", "other"), text) is None
