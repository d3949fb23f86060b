"""What a shell completes: ids of what is there, signals, directories. Names only, and quickly.

A person waits for each of these, so nothing is imported that a command's work needs: the ids are
the names of the lock and record files of the root, which an id has for as long as it is taken.
"""

from __future__ import annotations

import os

from click.shell_completion import CompletionItem

from asyncrt import _paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    import click


def ids(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """The ids on the root that the command line is about, without those it has already."""
    given = context.params.get(parameter.name or "") or ()
    taken = set(given) if isinstance(given, tuple) else {given}
    return _items(each for each in _ids(context) if each.startswith(text) and each not in taken)


def ids_or_signals(
    context: click.Context, parameter: click.Parameter, text: str
) -> list[CompletionItem]:
    """As ids; after the first word also the names of signals."""
    import signal

    found = ids(context, parameter, text)
    if text and context.params.get(parameter.name or ""):
        names = (each.name.removeprefix("SIG") for each in signal.Signals)
        found += _items(each for each in sorted(names) if each.startswith(text.upper()))
    return found


def signals(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """The names of signals, without SIG."""
    import signal

    wanted = text.upper().removeprefix("SIG")
    names = (each.name.removeprefix("SIG") for each in signal.Signals)
    return _items(each for each in sorted(names) if each.startswith(wanted))


def directories(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Directories, by the shell itself."""
    return [CompletionItem(text, type="dir")]


def files(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Files, by the shell itself."""
    return [CompletionItem(text, type="file")]


def _items(values: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(each) for each in values]


def _ids(context: click.Context) -> list[str]:
    root = context.find_root().params.get("root") or _paths.default_root()
    try:
        names = os.listdir(root)
    except OSError:
        return []  # nothing is there yet, or nothing of ours
    found = set()
    for name in names:
        for suffix in (_paths.STATE, _paths.LOCK):
            if name.endswith(suffix):
                found.add(name.removesuffix(suffix))
    return sorted(each for each in found if each and not each.startswith("~"))
