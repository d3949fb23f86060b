"""Rules of this project that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrt
from tests.helpers import readme
from tests.helpers.processes import REPOSITORY

_ROOT = Path(REPOSITORY)
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _python_files() -> list[Path]:
    folders = ("asyncrt", "tests", "benchmarks")
    return sorted(path for folder in folders for path in (_ROOT / folder).rglob("*.py"))


def _lines() -> Iterator[tuple[str, str]]:
    for path in _python_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(_ROOT)}:{number}", line


def _unexplained(comment: str) -> str | None:
    """What a comment that silences a linter or the type checker leaves out, or None."""
    ignores = _SILENCING.findall(comment)
    if not ignores:
        return None
    if not all(_CODES.fullmatch(ignore.strip()) for ignore in ignores):
        return "the code"
    return None if _SILENCING.sub("", comment).strip(" #-:") else "the reason"


_SILENCING = re.compile(r"(?:noqa|type:\s*ignore)\b(?::[ A-Z0-9,]+\b|\[[a-z, -]+\])?")
_CODES = re.compile(r"noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\]")


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def test_every_ignored_lint_and_type_error_names_its_code_and_its_reason() -> None:
    unexplained = [
        f"{path.relative_to(_ROOT)}:{number}: {missing}?"
        for path in _python_files()
        for number, comment in _comments(path)
        if (missing := _unexplained(comment))
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    ("comment", "missing"),
    [
        ("# noqa", "the code"),
        ("# noqa: S101", "the reason"),
        ("# noqa: S101, SLF001 - a test may", None),
        ("# noqa: BLE001  # handed over", None),
        ("# type: ignore  # why", "the code"),
        ("# type: ignore[misc]", "the reason"),
        ("# type: ignore[misc]  # noqa: B018", "the reason"),
        ("# type: ignore[misc]  # noqa: B018 - both", None),
        ("# ignored on purpose", None),
    ],
)
def test_an_unexplained_ignore_is_seen(comment: str, missing: str | None) -> None:
    assert _unexplained(comment) == missing


def test_nothing_is_left_to_do() -> None:
    word = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + "X|HA" + "CK)\\b")
    assert [where for where, line in _lines() if word.search(line)] == []


def test_every_module_of_the_package_says_what_it_is_for() -> None:
    bare = [
        str(path.relative_to(_ROOT))
        for path in _python_files()
        if path.is_relative_to(_ROOT / "asyncrt")
        and not ast.get_docstring(ast.parse(path.read_bytes()))
    ]
    assert bare == []


def test_a_packages_init_is_a_table_of_contents() -> None:
    """Sub-packages re-export and hold no logic; the top one resolves lazily."""
    for path in (_ROOT / "asyncrt").glob("*/**/__init__.py"):
        logic = [
            type(node).__name__
            for node in ast.parse(path.read_bytes()).body
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.If)
        ]
        assert logic == [], str(path)


def test_a_sleep_in_a_test_says_why_it_orders_nothing() -> None:
    # The one helper whose facts have no event.
    allowed = "tests/helpers/processes.py"
    sleeps = [
        where
        for where, line in _lines()
        if where.startswith("tests/")
        and not where.startswith(allowed)
        and re.match(r"\s*time\.sleep\([^#]*$", line)
    ]
    assert sleeps == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (_ROOT / "asyncrt" / "py.typed").exists()


def test_package_project_and_changelog_agree_on_the_version() -> None:
    version = _PROJECT["project"]["version"]
    assert version == asyncrt.__version__
    changelog = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE)


def test_every_dependency_has_a_lower_bound() -> None:
    extras = _PROJECT["project"]["optional-dependencies"].values()
    wanted = [*_PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    unbound = [name for name in wanted if not re.search(r"[>=]=|^asyncrt\[|^types-", name)]
    assert unbound == []


def test_every_ignored_rule_in_the_configuration_has_its_reason() -> None:
    text = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignored = text.split("\nignore = [", 1)[1].split("\n]", 1)[0].strip().splitlines()
    assert [line for line in ignored if not re.search(r'^\s*"\w+",\s+# \S', line)] == []


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_readme_has_the_command(name: str) -> None:
    assert "python3.11 -m venv" in readme.block(name)


def test_a_block_of_the_readme_is_found_by_its_comment_alone() -> None:
    text = "<!-- command: a -->\n```sh\none\n```\n```sh\ntwo\n```\n<!-- example: a -->\n\n```\nb\n```\n"
    assert readme.block("a", text=text) == "one\n"
    assert readme.block("a", kind="example", text=text) == "b\n"
    with pytest.raises(LookupError, match="0 blocks"):
        readme.block("b", text=text)
    with pytest.raises(LookupError, match="2 blocks"):
        readme.block("a", text=text + text)


def test_ci_is_one_executable_script() -> None:
    assert os.access(_ROOT / ".ci" / "run", os.X_OK)


def test_hazard_44_nothing_here_is_to_be_set_user_id() -> None:
    """Bubblewrap's CVE-2026-41163; ids beyond one's own are mapped by newuidmap(1), which is."""
    files = [path for path in (_ROOT / "asyncrt").rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o6111] == []
    scripts = _PROJECT["project"].get("scripts", {})
    assert set(scripts) == {"asyncrt"}
