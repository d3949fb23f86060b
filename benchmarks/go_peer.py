"""The same work in Go, which gVisor, runc and containerd are written in: built where Go is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.question import Skipped

_SOURCE = str(Path(__file__).absolute().parent / "go" / "main.go")
_PATIENCE = 120.0  # seconds for a build; the first one on a machine compiles Go's own library


def build(directory: str) -> str:
    """The program's path. Skipped where there is no Go, or one that can't build it."""
    go = shutil.which("go")
    if go is None:
        raise Skipped("there is no Go toolchain (golang-go)")
    path = os.path.join(directory, "go-peer")
    cache = {} if "HOME" in os.environ else {"GOCACHE": os.path.join(directory, "go-cache")}
    done = subprocess.run(
        [go, "build", "-o", path, _SOURCE],
        env={**os.environ, **cache, "GO111MODULE": "off", "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        raise Skipped(
            f"Go can't build it: {(done.stderr.strip() or 'no word why').splitlines()[-1]}"
        )
    return path


class GoPeer:
    """The program, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def cycle(self, mode: str, count: int) -> float:
        """Seconds per lock, load, save and unlock."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{mode} {count}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the Go peer ended with {await self._process.wait()}")
        return float(line) / count


@contextlib.asynccontextmanager
async def running(program: str, directory: str) -> AsyncIterator[GoPeer]:
    """It works on `record.state` in the directory."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, directory, stdin=pipe, stdout=pipe)
    try:
        yield GoPeer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
