"""Help that helps, and how a command line is taken apart; mostly inside this process."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import asyncrt as package
from asyncrt.cli.app import app
from asyncrt.cli.commands import split_program
from tests.cli.command import Asyncrt

COMMANDS = [
    "attach",
    "create",
    "delete",
    "do",
    "doctor",
    "events",
    "exec",
    "export",
    "features",
    "gc",
    "kill",
    "list",
    "logs",
    "metrics",
    "pause",
    "prune",
    "ps",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "stop",
    "update",
    "wait",
    "watch",
]


def test_the_commands_are_those_that_work() -> None:
    assert sorted(app.commands) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], prog_name="asyncrt")
    assert shown.exit_code == 0
    assert f"Usage: asyncrt {name} " in shown.output
    _, _, examples = shown.output.partition("\nExample")
    lines = examples.splitlines()[1:]
    assert lines
    assert all(line.startswith("  asyncrt ") for line in lines)
    # An example is understood: it names no option that isn't there.
    for line in lines:
        words = shlex.split(os.path.expandvars(line))[1:]
        words = list(itertools.takewhile(lambda word: word not in {"&&", "|"}, words))
        assert words[0] in COMMANDS
        command = app.commands[words[0]]
        command.make_context(words[0], words[1:]).close()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    for each in app.commands[name].params:
        if isinstance(each, click.Option) and each.name != "format_":
            assert each.help, each


def test_alone_it_prints_its_help_and_its_version_is_the_packages(asyncrt: Asyncrt) -> None:
    alone = subprocess.run(
        [sys.executable, "-m", "asyncrt"], capture_output=True, text=True, check=True
    )
    assert alone.stdout.startswith("Usage: asyncrt ")
    for name in COMMANDS:
        assert f"\n  {name} " in alone.stdout
    assert "..." not in alone.stdout.partition("Commands:")[2]
    assert asyncrt("--version") == f"asyncrt {package.__version__}\n"
    assert os.listdir(asyncrt.root) == []


def test_help_loads_neither_the_engine_nor_tables() -> None:
    code = (
        "import sys; from asyncrt.cli.app import app; app.main(['--help'], standalone_mode=False);"
        "print(*{'asyncio', 'msgspec', 'psutil', 'rich', 'asyncrt.engine'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("args", "before", "program"),
    [
        ("id -- cmd -d", "id", "cmd -d"),
        ("-d id -- cmd", "-d id", "cmd"),
        ("id -d -- cmd -- x", "id -d", "cmd -- x"),
        ("id cmd -d --help", "id", "cmd -d --help"),
        ("id cmd -- -d", "id", "cmd -- -d"),
        ("-e A=1 id cmd", "-e A=1 id", "cmd"),
        ("-eA=1 id cmd", "-eA=1 id", "cmd"),
        ("-de A=1 id cmd", "-de A=1 id", "cmd"),
        ("--env A=1 id cmd", "--env A=1 id", "cmd"),
        ("--env=A=1 id cmd", "--env=A=1 id", "cmd"),
        ("id --cwd -- -- cmd", "id --cwd --", "cmd"),
        ("-- cmd", "", "cmd"),
        ("id - x", "id", "- x"),
        ("id --", "id", ""),
        ("id", "id", ""),
        ("", "", ""),
    ],
)
def test_the_program_is_split_off_where_it_begins(args: str, before: str, program: str) -> None:
    found = split_program(app.commands["exec"].params, args.split())
    assert found == (before.split(), tuple(program.split()))
