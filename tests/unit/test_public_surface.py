"""`asyncrt.__all__` against what is there, and what every public name owes its reader."""

from __future__ import annotations

import inspect
import pickle
import types
import typing
from typing import Any

import pytest

import asyncrt
from asyncrt import errors
from tests.helpers import surface
from tests.helpers.processes import REPOSITORY, run_python

_PROMISED = {
    "Engine",
    "Container",
    "Process",
    "ProcessInfo",
    "View",
    "ExitResult",
    "RunResult",
    "Spec",
    "Status",
    "FileLock",
    "StateFile",
    "INHERIT",
    "DEVNULL",
    "PIPE",
}

_METHODS = {
    "Engine": "create load list run running delete",
    "Container": "view start pause resume kill stop wait exec processes destroy state delete",
    "Process": "wait kill",
    "FileLock": "acquire try_acquire release locked close",
    "StateFile": "lock lock_for_new save_locked load destroy unlock close list_ids",
    "Spec": "command from_bundle",
}


def _all_errors() -> set[type[errors.AsyncrtError]]:
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.AsyncrtError)
    }


def test_everything_promised_is_public() -> None:
    promised = _PROMISED | {error.__name__ for error in _all_errors()}
    assert promised - set(asyncrt.__all__) == set()


def test_the_list_of_public_names_has_no_doubles_and_all_resolve() -> None:
    assert len(asyncrt.__all__) == len(set(asyncrt.__all__))
    for name in asyncrt.__all__:
        assert getattr(asyncrt, name) is not None
    assert set(asyncrt.__all__) <= set(dir(asyncrt))


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="Enigne"):
        asyncrt.Enigne  # noqa: B018 - the misspelling is the test


@pytest.mark.parametrize(("owner", "names"), _METHODS.items(), ids=_METHODS)
def test_the_promised_methods_are_there(owner: str, names: str) -> None:
    cls = getattr(asyncrt, owner)
    assert [name for name in names.split() if not hasattr(cls, name)] == []


def test_every_public_class_and_function_says_what_it_is() -> None:
    bare = []
    for name in asyncrt.__all__:
        value = getattr(asyncrt, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            said = value.__doc__ or ""
            # A dataclass without a docstring gets its signature as one.
            if not said or said.startswith(f"{name}("):
                bare.append(name)
    assert bare == []


def test_every_public_method_has_a_docstring() -> None:
    bare = [
        name
        for owner in surface.public_classes()
        for name, value in surface.public_members(owner)
        if not inspect.getdoc(value)
    ]
    assert bare == []


def test_every_awaitable_says_what_a_cancellation_does() -> None:
    found = dict(surface.awaitables())
    assert len(found) > 20
    silent = [name for name, value in found.items() if "If cancelled," not in (value.__doc__ or "")]
    assert silent == []


def test_a_type_checker_sees_the_same_names_as_the_interpreter() -> None:
    """The lazy table and the imports under TYPE_CHECKING can't drift apart."""
    with open(f"{REPOSITORY}/asyncrt/__init__.py", encoding="utf-8") as file:
        source = file.read()
    done = run_python(_TYPED_NAMES, source)
    assert done.returncode == 0, done.stderr
    assert set(asyncrt.__all__) <= set(done.stdout.split())


_TYPED_NAMES = """
import ast, sys
for node in ast.walk(ast.parse(sys.argv[1])):
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            print(alias.asname or alias.name)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            print(getattr(target, "id", ""))
"""


def _example_of(annotation: object) -> object:
    if annotation is str:
        return "a text"
    if annotation is int:
        return 13
    if annotation is float:
        return 2.5
    if typing.get_origin(annotation) is types.UnionType:
        return _example_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is dict:
        return {"one": "a text"}
    return ("one", "two")  # Iterable[str]


def _fields_of(error: type[errors.AsyncrtError]) -> dict[str, Any]:
    if "__init__" not in vars(error):
        return {}
    hints = typing.get_type_hints(error.__init__, localns={"Iterable": tuple, "Mapping": dict})
    return {name: _example_of(hints[name]) for name in inspect.signature(error).parameters}


_ERRORS = sorted(_all_errors(), key=lambda error: error.__name__)


@pytest.mark.parametrize("error", _ERRORS)
def test_an_error_keeps_its_class_message_and_fields_through_pickling(
    error: type[errors.AsyncrtError],
) -> None:
    fields = _fields_of(error)
    made = error(**fields)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(made, protocol))
        assert type(again) is error
        assert str(again) == str(made)
        for name, value in fields.items():
            assert getattr(again, name) == getattr(made, name) == value


@pytest.mark.parametrize("error", [e for e in _ERRORS if e is not errors.AsyncrtError])
def test_an_errors_message_is_one_line_built_from_its_fields(
    error: type[errors.AsyncrtError],
) -> None:
    made = error(**_fields_of(error))
    assert "\n" not in str(made)
    assert "a text" in str(made)
