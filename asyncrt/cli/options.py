"""The options before the command: which root and platform, where the log goes, how much is told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import click


class Options:
    """The global options, filled in once the command line is parsed."""

    __slots__ = ("debug", "log", "log_format", "pivot_root", "platform", "root")

    def __init__(self) -> None:
        self.root: str | None = None
        self.platform = "auto"
        self.log: str | None = None
        self.log_format = "text"
        self.debug = False
        self.pivot_root = True  # an option of the commands that create


def of(context: click.Context) -> Options:
    """The options of the command that is being run."""
    found = context.find_object(Options)
    return Options() if found is None else found
