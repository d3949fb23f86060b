"""Containers as podman and CRI-O keep them: made by an OCI runtime, supervised by a conmon each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal

from benchmarks.contenders import fresh_id, run_subprocess
from benchmarks.question import Skipped
from benchmarks.runtimes import Runtime

_END_SECONDS = 10.0


class Conmon:
    """Starts them, by the config of one bundle, with their files in one directory."""

    def __init__(self, runtime: Runtime, bundle: str, directory: str) -> None:
        """Raises Skipped where it isn't installed."""
        path = shutil.which("conmon")
        if path is None:
            raise Skipped("conmon isn't installed: apt-get install conmon")
        self._runtime = runtime
        self._config = os.path.join(bundle, "config.json")
        self._directory = directory
        words = [word for each in runtime.options for word in ("--runtime-arg", each)]
        self._command = [path, "--api-version", "1", "--runtime", runtime.path, *words]
        self._command += ["--exit-dir", directory, "--socket-dir-path", directory]

    async def start(self) -> Kept:
        """A running one."""
        id = fresh_id()
        stem = os.path.join(self._directory, id)
        bundle = f"{stem}.bundle"  # of its own: conmon keeps pipes there
        os.mkdir(bundle)
        os.link(self._config, f"{bundle}/config.json")
        words = ["--cid", id, "--cuuid", id, "--name", id, "--bundle", bundle]
        words += ["--log-path", f"k8s-file:{stem}.log"]
        words += ["--container-pidfile", f"{stem}.pid", "--conmon-pidfile", f"{stem}.conmon"]
        said = await _told([*self._command, *words])
        if json.loads(said or b'{"data": -1}')["data"] <= 0:
            raise RuntimeError(f"conmon couldn't make a container: {said!r}")
        kept = Kept(self._runtime, id, _pid(f"{stem}.conmon"), _pid(f"{stem}.pid"))
        await run_subprocess(self._runtime.command("start", id))
        return kept


class Kept:
    """A container with its conmon, which is nobody's child: the pidfd says when it has ended."""

    def __init__(self, runtime: Runtime, id: str, conmon: int, init: int) -> None:
        self._runtime = runtime
        self._id = id
        self._pidfd = os.pidfd_open(conmon)
        self.pids = (conmon, init)

    async def end(self) -> None:
        """Kill and remove it; its conmon ends by itself then."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await run_subprocess(self._runtime.command("delete", "--force", self._id))
            async with asyncio.timeout(_END_SECONDS):
                await ended.wait()
        except TimeoutError:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)


def _pid(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


async def _told(command: list[str]) -> bytes:
    """What a conmon says when it has made its container, or couldn't; it has left us by then."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as pipe:
        null = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, "_OCI_SYNCPIPE": str(writing)},
                pass_fds=[writing],
                stdin=null,
                stdout=null,
                stderr=null,
            )
        finally:
            os.close(writing)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            said = await reader.readline()
        finally:
            transport.close()
        await process.wait()
        return said
