"""What import-linter can't say of the layers; its contracts are in pyproject.toml."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY, run_python

_PACKAGE = Path(REPOSITORY, "asyncrt")
_MODULES = sorted(_PACKAGE.rglob("*.py"))

# What must never be loaded where supervisors are forked: each costs start-up time and memory.
# (enum comes with signal and can't be avoided.)
_HEAVY = {"asyncio", "typing", "dataclasses", "inspect", "subprocess", "logging"}

_IMPORT_ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import importlib, json
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def _dotted(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", _MODULES, ids=_dotted)
def test_no_module_imports_fcntl_or_relatively(path: Path) -> None:
    for level, name in _imports(path):
        assert level == 0, f"relative import of {name}"
        assert name.split(".")[0] != "fcntl", "flocks go through portalocker"


def test_no_module_has_two_ideas() -> None:
    """Past 500 lines there is a second idea in a file."""
    sizes = {_dotted(path): len(path.read_text().splitlines()) for path in _MODULES}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


@pytest.mark.parametrize("package", ["launch", "supervisor"])
def test_what_runs_outside_the_loop_needs_only_a_bare_and_lean_interpreter(package: str) -> None:
    """Without site-packages on the path, every module of it imports, and none of the heavy ones."""
    names = [_dotted(path) for path in _MODULES if package in path.parts]
    assert names
    done = run_python(_IMPORT_ALONE, REPOSITORY, *names, flags=["-I", "-S"])
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert _HEAVY & {name.split(".")[0] for name in loaded} == set()
    others = {"engine", "container", "state", "oci", "locking", "platforms", "sandbox", "cli"}
    assert {f"asyncrt.{name}" for name in others} & loaded == set()


def test_importing_the_package_alone_loads_nothing_of_it() -> None:
    done = run_python(_IMPORT_ALONE, REPOSITORY, "asyncrt", flags=["-I", "-S"])
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("asyncrt")] == ["asyncrt"]
