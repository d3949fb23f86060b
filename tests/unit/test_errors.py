from __future__ import annotations

import copy
import errno
import inspect
import pickle
import typing
from typing import Any

import pytest

from asyncrt import errors
from asyncrt.errors import AsyncrtError

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, AsyncrtError) and each is not AsyncrtError
]

SAMPLES: dict[str, object] = {
    "errno": errno.ENOSPC,
    "candidates": ("web1", "web2"),
    "allowed": ("created", "running"),
    "fields": ("linux.seccomp",),
    "reasons": {"linux.seccomp": "this kernel has none"},
    "left": ("pid 7",),
    "timeout": 2.5,
    "holder": 4711,
    "schema": 9,
    "supported": 1,
}

PARENTS = {
    "InvalidId": ValueError,
    "ContainerNotFound": FileNotFoundError,
    "ContainerExists": FileExistsError,
    "LockTimeout": TimeoutError,
    "ContainerBusy": TimeoutError,
    "SandboxUnresponsive": TimeoutError,
    "RootUnusable": PermissionError,
    "StorageFailed": OSError,
    "AmbiguousId": LookupError,
    "SpecInvalid": ValueError,
}


def arguments(cls: type[AsyncrtError]) -> dict[str, object]:
    names = list(inspect.signature(cls).parameters)
    return {name: SAMPLES.get(name, f"some-{name}") for name in names}


def make(cls: type[AsyncrtError]) -> AsyncrtError:
    given: dict[str, Any] = arguments(cls)
    return cls(**given)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_carries_its_fields_and_tells_them_in_one_line(cls: type[AsyncrtError]) -> None:
    error = make(cls)
    for name, value in arguments(cls).items():
        assert getattr(error, name) == value
    assert str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(cls: type[AsyncrtError], protocol: int) -> None:
    error = make(cls)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is cls
    assert str(again) == str(error)
    assert {n: getattr(again, n) for n in arguments(cls)} == arguments(cls)
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize(("name", "parent"), PARENTS.items())
def test_what_people_already_catch_is_a_parent(name: str, parent: type[Exception]) -> None:
    with pytest.raises(parent):
        raise make(getattr(errors, name))


def test_an_oserror_of_ours_has_its_errno() -> None:
    error = errors.StorageFailed(path="/x", errno=errno.EIO)
    assert error.errno == errno.EIO
    assert str(error) == "/x: Input/output error; its disk fails: see 'dmesg'"


def test_long_lists_and_ids_are_shortened_in_the_message_only() -> None:
    many = tuple(f"web{n}" for n in range(50))
    ambiguous = errors.AmbiguousId(prefix="web", candidates=iter(many))
    assert ambiguous.candidates == many
    assert str(ambiguous).count("web") < 12
    invalid = errors.InvalidId(container_id="x" * 500, why="long")
    assert len(str(invalid)) < 200
    assert len(invalid.container_id) == 500


def test_a_timeout_names_the_holder_only_when_it_is_known() -> None:
    assert "pid" not in str(errors.LockTimeout(path="/l", timeout=1))
    assert "held by pid 7" in str(errors.LockTimeout(path="/l", timeout=1, holder=7))
    assert "status paused" in str(
        errors.ContainerBusy(container_id="a", operation="start", timeout=1, status="paused")
    )


def test_the_module_imports_nothing_of_ours_at_run_time() -> None:
    for value in vars(errors).values():
        module = getattr(value, "__module__", "") or ""
        assert not module.startswith("asyncrt.") or module == "asyncrt.errors"
    assert not typing.TYPE_CHECKING


@pytest.mark.parametrize(
    ("operation", "said"),
    [("pause", "can't pause container 'web'"), ("events", "can't follow container 'web'")],
)
def test_a_wrong_status_is_told_in_words_for_every_operation(operation: str, said: str) -> None:
    error = errors.InvalidTransition(
        container_id="web", operation=operation, status="stopped", allowed=("running",)
    )
    assert str(error) == f"{said}: it is stopped, and must be running"
    assert error.operation == operation
