"""metrics: figures of all containers for a scraper, once, into a file, or over HTTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

from asyncrt.cli import commands, complete, output, session, values
from asyncrt.cli.errors import CommandFailedError

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from asyncrt.engine import Engine

_PROMETHEUS, _OPENMETRICS = "prometheus", "openmetrics"


class _Address(NamedTuple):
    host: str
    port: int
    is_loopback: bool


class _Listen(click.ParamType[_Address]):
    name = "ADDRESS:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Address:
        import ipaddress

        if isinstance(value, _Address):
            return value
        host, colon, port = str(value).rpartition(":")
        host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self.fail(f"{value!r} isn't ADDRESS:PORT, as 127.0.0.1:9100", param, ctx)
        if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
            return self.fail(f"{port!r} is no port", param, ctx)
        return _Address(host, int(port), address.is_loopback)


@click.command(
    cls=commands.Command,
    examples=[
        "asyncrt metrics",
        "asyncrt metrics --textfile /var/lib/node_exporter/asyncrt.prom",
        "asyncrt metrics --listen 127.0.0.1:9180",
    ],
)
@click.option(
    "--textfile",
    metavar="FILE",
    shell_complete=complete.files,
    help="Replace this file by them, for node_exporter's textfile collector.",
)
@click.option(
    "--interval",
    type=values.Seconds(),
    help="Replace the file again and again, so long apart, until interrupted.",
)
@click.option(
    "--listen",
    type=_Listen(),
    help="Serve them over HTTP at this address until interrupted; port 0: any that is free.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Let --listen take an address that other machines reach: there is no password.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([_OPENMETRICS, _PROMETHEUS]),
    help="How they are written; prometheus is the older text. Default: that for a file, which "
    "node_exporter wants so, else openmetrics.",
)
@click.pass_context
def metrics(
    context: click.Context,
    textfile: str | None,
    interval: float | None,
    listen: _Address | None,
    allow_remote: bool,
    format_: str | None,
) -> int:
    """Print the metrics of all containers, or give them to a scraper.

    What is asked for over HTTP is read anew each time, in the format that the scraper asks for. It
    needs prometheus_client: pip install 'asyncrt[metrics]'.
    """
    if listen is not None and (textfile is not None or format_ is not None):
        raise click.UsageError("--listen excludes --textfile and --format")
    if interval is not None and textfile is None:
        raise click.UsageError("--interval is for --textfile")
    if listen is not None and not listen.is_loopback and not allow_remote:
        raise click.UsageError(
            f"{listen.host} can be reached from other machines; if that is meant: --allow-remote"
        )
    source = _import()

    async def work(engine: Engine) -> int:
        if listen is not None:
            return await _serve(engine, source, listen)
        if textfile is not None:
            return await _keep_writing(engine, source, textfile, format_ or _PROMETHEUS, interval)
        output.write((await _rendered(engine, source, format_ or _OPENMETRICS)).decode())
        return 0

    return session.run(context, work)


def _import() -> ModuleType:
    try:
        from asyncrt import metrics as source
    except ImportError as error:
        raise CommandFailedError(str(error)) from error
    return source


async def _rendered(engine: Engine, source: ModuleType, format_: str) -> bytes:
    from asyncrt._threads import run_blocking

    text: bytes = await run_blocking(source.render, engine.root, format_)
    return text


async def _keep_writing(
    engine: Engine, source: ModuleType, path: str, format_: str, interval: float | None
) -> int:
    import asyncio

    from asyncrt._threads import run_blocking

    while True:
        await run_blocking(_replace, path, await _rendered(engine, source, format_))
        if interval is None:
            return 0
        await asyncio.sleep(interval)


def _replace(path: str, text: bytes) -> None:
    """Replace the file in one step, so that no scraper sees a part of it."""
    from asyncrt import _durable

    directory, name = os.path.split(os.path.abspath(path))
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Whoever collects it is mostly another user.
            _durable.replace(fd, name, text, mode=0o644, durable=False)
        finally:
            os.close(fd)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CommandFailedError(f"can't write {path}: {why}") from error


async def _serve(engine: Engine, source: ModuleType, address: _Address) -> int:
    import asyncio

    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(
            address.port, address.host, registry=source.registry(engine.root)
        )
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CommandFailedError(f"can't listen at {address.host}:{address.port}: {why}") from error
    try:
        host = f"[{address.host}]" if ":" in address.host else address.host
        output.write(f"listening at http://{host}:{server.server_port}/metrics\n")
        await asyncio.Event().wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return 0
