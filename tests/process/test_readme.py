"""The README's examples, run as they stand there, in their order, on one root."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import readme
from tests.helpers.processes import REPOSITORY

_INSTALLING = {"command: run", "command: test"}  # .ci/run runs these
_ELSEWHERE = {"example: orchestrator"}  # test_main_job


class Example(NamedTuple):
    """Something to run, and what the README says that it prints."""

    line: int
    argv: list[str]
    output: str


class Reader:
    """Somebody in a fresh directory, with the command on the PATH and a root of their own."""

    def __init__(self, directory: Path, root: str) -> None:
        self._directory = directory
        beside = Path(sys.executable).parent / "asyncrt"
        if not beside.exists():  # not installed where the tests run from a checkout
            beside = directory / "bin" / "asyncrt"
            beside.parent.mkdir()
            beside.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m asyncrt "$@"\n')
            beside.chmod(0o755)
        self._env = {
            "PATH": f"{beside.parent}:{os.environ['PATH']}",
            "PYTHONPATH": REPOSITORY,
            "ASYNCRT_ROOT": root,
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, argv: list[str]) -> tuple[int, str]:
        """Its status, and all it wrote. What it leaves running may keep its output open."""
        with open(self._directory / "output", "w+") as output:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                cwd=self._directory,
                timeout=30,
                check=False,
            )
            output.seek(0)
            return done.returncode, output.read()


def _examples(fences: list[readme.Fence]) -> Iterator[Example]:
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence.language == "console":
            yield from _commands(fence)
        elif fence.language == "python" and fence.mark not in _ELSEWHERE:
            said = following.text if following and following.language == "text" else ""
            yield Example(fence.line, [sys.executable, "-c", fence.text], said)


def _commands(fence: readme.Fence) -> Iterator[Example]:
    r"""`$ command`, its further lines after `> `, then its output.

    >>> list(_commands(readme.Fence(1, "console", "", "$ cat <<END\n> a\n> END\na\n")))
    """
    for part in re.split(r"^\$ ", fence.text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines(keepends=True)
        more = [line for line in rest if line.startswith("> ")]
        command = first + "".join(line.removeprefix("> ") for line in more)
        yield Example(fence.line, ["bash", "-c", command], "".join(rest[len(more) :]))


def _fits(output: str, shown: str) -> bool:
    """Whether it is what is shown, where `...` is any word and a table may have other widths."""
    pattern = r"\s+".join(r"\S+" if word == "..." else re.escape(word) for word in shown.split())
    return re.fullmatch(pattern, output.strip()) is not None


@pytest.mark.timeout(300)
def test_every_example_does_what_the_readme_says(tmp_path: Path, root: str) -> None:
    reader = Reader(tmp_path, root)
    examples = list(_examples(readme.fences()))
    assert len(examples) > 15
    for example in examples:
        status, output = reader.run(example.argv)
        told = f"README.md:{example.line}: {example.argv[-1]!r} ended with {status}:\n{output}"
        assert _fits(output, example.output), f"{told}\nshown is:\n{example.output}"
        # The one kind of failure that an example shows is the command's own, said in a line.
        assert (status != 0) == output.startswith("asyncrt: "), told


def test_every_block_is_run_somewhere() -> None:
    found = readme.fences()
    assert {fence.mark for fence in found if fence.mark} == _INSTALLING | _ELSEWHERE
    assert {fence.mark for fence in found if fence.language == "sh"} == _INSTALLING
    assert {fence.language for fence in found} == {"sh", "console", "python", "text"}
    before = {
        found[index - 1].language for index, each in enumerate(found) if each.language == "text"
    }
    assert before == {"python"}


def test_only_the_marked_commands_install() -> None:
    installing = [fence for fence in readme.fences() if "pip install" in fence.text]
    assert {fence.mark for fence in installing} == _INSTALLING
    for fence in installing:
        assert fence.text.startswith("python3.11 -m venv .venv && .venv/bin/pip install ")
        assert fence.text.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "shown", "fits"),
    [
        ("a   12  b\n", "a ... b\n", True),
        ("a b\n", "a ... b\n", False),
        ("", "", True),
        ("x", "", False),
        ("", "x", False),
        ("a.c", "abc", False),
    ],
)
def test_output_is_compared_word_by_word(output: str, shown: str, fits: bool) -> None:
    assert _fits(output, shown) == fits


def test_the_table_of_commands_is_complete() -> None:
    from asyncrt.cli.app import app

    text = readme.README.read_text(encoding="utf-8")
    _, _, after = text.partition("\n## The command line\n")
    section, _, _ = after.partition("\n## ")
    listed = re.findall(r"^\| `(\w+)", section, re.MULTILINE)
    assert sorted(listed) == sorted(app.commands)


def test_contributors_are_told_the_same_in_both_places() -> None:
    rows = re.compile(r"^\| [^|`]+ \| (`.*`[^|]*) \|$", re.MULTILINE)
    contributing = (readme.README.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = readme.README.read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Contributing\n")
    told = {command for row in rows.findall(section) for command in re.findall("`(.*?)`", row)}
    assert len(told) > 6
    for command in told - {"python -m benchmarks", "python -m benchmarks NAME"}:
        assert command.replace("312", "313").replace("3.12", "3.13") in contributing
