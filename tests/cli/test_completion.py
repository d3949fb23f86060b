"""What a shell completes, asked as bash, zsh and fish ask, and by each of these really."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.command import Asyncrt
from tests.helpers.processes import REPOSITORY


def environment(root: str, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": REPOSITORY, "ASYNCRT_ROOT": root, **more}


def complete(root: str, shell: str, *words: str) -> list[str]:
    """What the last word may become, as that shell is told."""
    code = "import sys; sys.argv[0] = 'asyncrt'; from asyncrt.cli import main; main()"
    line = shlex.join(["asyncrt", *words[:-1]]) + " " + words[-1]
    asked = {"COMP_WORDS": line, "COMP_CWORD": words[-1] if shell == "fish" else str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(root, _ASYNCRT_COMPLETE=f"{shell}_complete", **asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def values(root: str, *words: str) -> list[str]:
    return [each.partition(",")[2] for each in complete(root, "bash", *words) if each]


@pytest.fixture
def three(asyncrt: Asyncrt) -> str:
    """A root with records of three ids, one broken, and what else there may be."""
    for name in ("alpha", "beta", "b.d"):
        for suffix in (".lock", ".state"):
            with open(f"{asyncrt.root}/{name}{suffix}", "x") as file:
                file.write("{")
    for name in ("~events", "~events.lock", ".x.state~", "alpha.d", "README"):
        with open(f"{asyncrt.root}/{name}", "x"):
            pass
    return asyncrt.root


@pytest.mark.leaves
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["stop", ""], ["alpha", "b.d", "beta"]),
        (["stop", "b"], ["b.d", "beta"]),
        (["stop", "beta", ""], ["alpha", "b.d"]),
        (["state", "al"], ["alpha"]),
        (["exec", ""], ["alpha", "b.d", "beta"]),
        (["kill", "alpha", "b"], ["b.d", "beta", "BUS"]),
        (["kill", "--signal", "sigk"], ["KILL"]),
        (["list", "--sandbox", "a"], ["alpha"]),
        (["list", "--status", "pa"], ["paused"]),
        (["create", ""], []),  # a new id is anybody's to choose
        (["--root", "/nowhere", "stop", ""], []),
        (["sto"], ["stop"]),
        (["exec", "alpha", "--det"], ["--detach"]),
    ],
)
def test_ids_signals_commands_and_options_are_completed(
    three: str, words: Sequence[str], found: list[str]
) -> None:
    assert values(three, *words) == found


@pytest.mark.leaves
def test_a_programs_words_and_paths_are_the_shells_to_complete(three: str) -> None:
    for words in (
        ["exec", "alpha", "--", ""],
        ["exec", "alpha", "ls", ""],
        ["run", "x", "--", "l"],
    ):
        assert complete(three, "bash", *words) == [f"file,{words[-1]}"]
    assert complete(three, "bash", "run", "--bundle", "") == ["dir,"]
    assert complete(three, "bash", "--log", "") == ["file,"]


@pytest.mark.leaves
def test_zsh_and_fish_are_told_the_same(three: str) -> None:
    zsh = complete(three, "zsh", "stop", "b")
    assert zsh == ["plain", "b.d", "_", "plain", "beta", "_"]
    assert complete(three, "fish", "stop", "b") == ["plain,b.d", "plain,beta"]


@pytest.fixture
def on_path(tmp_path: Path) -> str:
    """A PATH with the command on it."""
    command = tmp_path / "asyncrt"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m asyncrt "$@"\n')
    command.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.mark.leaves
@pytest.mark.needs_program("fish")
def test_a_fish_completes_ids_by_the_line_of_the_readme(
    three: str, on_path: str, tmp_path: Path
) -> None:
    script = "_ASYNCRT_COMPLETE=fish_source asyncrt | source; complete -C 'asyncrt stop b'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(three, PATH=on_path, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (["b.d", "beta"], "")


@pytest.mark.leaves
@pytest.mark.needs_program("zsh")
def test_a_zsh_completes_ids_by_the_line_of_the_readme(
    three: str, on_path: str, tmp_path: Path
) -> None:
    """zsh completes for somebody at a terminal only: its module zpty is one."""
    script = """
        zmodload zsh/zpty
        zpty inner zsh -f -i
        zpty -w inner "PS1=; autoload -Uz compinit; compinit -D -u; stty rows 24 columns 80"
        zpty -w inner 'eval "$(_ASYNCRT_COMPLETE=zsh_source asyncrt)"; echo re""ady'
        zpty -r inner found '*ready*'
        zpty -w -n inner $'asyncrt stop b\t\t'
        zpty -r inner found '*b.d*beta*' && print -r -- found
        zpty -d inner
    """
    done = subprocess.run(
        ["zsh", "-f", "-c", script],
        env=environment(
            three, PATH=on_path, HOME=str(tmp_path), ZDOTDIR=str(tmp_path), TERM="dumb"
        ),
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout == "found\n", done


@pytest.mark.leaves
def test_a_bash_completes_ids_by_the_line_of_the_readme(three: str, on_path: str) -> None:
    script = """
        eval "$(_ASYNCRT_COMPLETE=bash_source asyncrt)" || exit
        COMP_WORDS=(asyncrt stop b) COMP_CWORD=2
        $(complete -p asyncrt | sed 's/.*-F \\([^ ]*\\) .*/\\1/') asyncrt b stop
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(three, PATH=on_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["b.d", "beta"], done


def test_completing_loads_neither_the_engine_nor_what_reads_records() -> None:
    code = (
        "import os, sys; from asyncrt.cli.app import app;"
        "app.main([], prog_name='asyncrt', standalone_mode=False)"
    )
    tail = (
        "\nimport atexit, sys; atexit.register(lambda: print(*{'asyncio', 'msgspec', 'psutil', "
        "'rich', 'asyncrt.engine', 'asyncrt.state'} & set(sys.modules), file=sys.stderr))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", tail + code],
        env=environment(
            "/nowhere",
            _ASYNCRT_COMPLETE="bash_complete",
            COMP_WORDS="asyncrt kill a h",
            COMP_CWORD="3",
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["plain,HUP"]
    assert done.stderr.strip() == ""
