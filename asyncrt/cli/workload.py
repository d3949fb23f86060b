"""What a container is to run, from the command line: a bundle, or a program with a few options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from asyncrt.container import Log, Stream
    from asyncrt.oci import Spec


def with_term(env: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The environment of a program on a terminal: ours is the one that it will be shown on."""
    return [("TERM", os.environ.get("TERM") or "xterm"), *env]


def output_target(
    wanted: bool | None, options: Sequence[tuple[str, Any]], *, default: bool
) -> Stream | Log:
    """Where a program's output goes: to a log, or where ours goes."""
    from asyncrt.container import INHERIT, Log

    if options and wanted is False:
        raise click.UsageError("--log-opt is for a log: not together with --no-log")
    if wanted or options or (wanted is None and default):
        return Log(**dict(options))
    return INHERIT


def check_console(program: Sequence[str], console_socket: str | None, *, tty: bool) -> None:
    """Raise UsageError for a socket that no terminal would be sent to, unless a file may ask for one."""
    if console_socket is not None and program and not tty:
        raise click.UsageError("--console-socket is for a terminal: give --tty as well")


class Workload:
    """A bundle's path or a program, checked for options that belong to the other."""

    def __init__(
        self,
        program: Sequence[str],
        *,
        bundle: str | None,
        annotations: Sequence[tuple[str, str]],
        env: Sequence[tuple[str, str]],
        cwd: str | None,
        user: str | None,
        limits: dict[str, Any],
    ) -> None:
        """`limits` are those of Spec.command, by its words."""
        if program and bundle is not None:
            raise click.UsageError("give either --bundle or a program, not both")
        if not program:
            given = [("--env", env), ("--cwd", cwd), ("--user", user)]
            given += [(f"--{name}", value) for name, value in limits.items()]
            for name, value in given:
                if value:
                    raise click.UsageError(
                        f"{name} is for a program; a bundle says it in config.json"
                    )
            if bundle is None and not os.path.lexists("config.json"):
                raise click.UsageError(
                    "missing program: write -- CMD [ARGS]... at the end, or give a --bundle; "
                    "this directory, which has no config.json, is none"
                )
        self.program = tuple(program)
        self.by_file = not program
        read = None if program else (bundle if bundle is not None else ".")
        self._annotations = dict(annotations)
        # One that something is to be added to is read here, and not by the engine.
        self.bundle = None if annotations else read
        self._read = read if annotations else None
        self._env = dict(env)
        self._cwd = cwd
        self._user = user
        self._limits = limits

    async def spec(self) -> Spec | None:
        """The spec of a program or of an annotated bundle; None for one that the engine reads itself.

        If cancelled, nothing has happened.
        """
        from asyncrt._threads import run_blocking
        from asyncrt.cli import flags
        from asyncrt.oci import Spec, annotated

        if self._read is not None:
            return annotated(await run_blocking(Spec.from_bundle, self._read), self._annotations)
        if not self.program:
            return None

        with flags.named():
            if self._user is None:
                return self._command(Spec)
            return await run_blocking(self._command, Spec)  # names may be looked up over a network

    def _command(self, kind: type[Spec]) -> Spec:
        return kind.command(
            self.program,
            env=self._env,
            cwd=self._cwd or "/",
            user=self._user,
            annotations=self._annotations,
            **self._limits,
        )
