"""The same sweep of runc's create, start and delete, as the figure of a peer.

A point isn't clean where `runc list` says what isn't so, or where `runc delete --force` fails or
leaves a process, a cgroup or a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tests.helpers import reality, reaping
from tests.sweep import tracer
from tests.sweep.sweep import Found, Result
from tests.sweep.tracer import Tracer

if TYPE_CHECKING:
    from tests.helpers.reality import Seen
    from tests.sweep.tracer import Point

_SECONDS = 20.0
_SETTLING_SECONDS = 2.0
_TRIES = 5

# What is done before the command that is swept, and that command.
COMMANDS = {
    "runc create": ((), "create"),
    "runc start": (("create",), "start"),
    "runc delete": (("create", "start", "kill"), "delete"),
}


def is_runc(pid: int) -> bool:
    """Whether a process executes runc, and no workload."""
    with contextlib.suppress(OSError):
        return b"runc" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


class RuncSweep:
    """A root and a bundle of runc's, and the means to disturb its commands."""

    def __init__(self) -> None:
        reaping.become_subreaper()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        self._directory = tempfile.mkdtemp(prefix="runc-sweep-")
        self._root = f"{self._directory}/root"
        self._bundle = f"{self._directory}/bundle"
        self._said = f"{self._directory}/said"
        self._count = 0
        _make_bundle(self._bundle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        reaping.kill_all(reaping.children())
        shutil.rmtree(self._directory, ignore_errors=True)

    def find(self, name: str) -> Found:
        """Do the command undisturbed."""
        container, traced = self._traced(name)
        if not traced.run(_SECONDS):
            raise RuntimeError(f"{name} doesn't end: {Path(self._said).read_text()}")
        if faults := self._judged(container):
            raise RuntimeError(f"{name} fails undisturbed: {faults}")
        return Found(traced.points, [], [])

    def disturb(self, name: str, _: Found, point: Point, errno: str = "") -> Result:
        """Kill at this point; again where the command doesn't come to it."""
        for _try in range(_TRIES):
            container, traced = self._traced(name)
            traced.aim(point.key)
            faults = []
            if not traced.run(_SECONDS):
                traced.let_go(_SETTLING_SECONDS)
                faults.append(f"no end in {_SECONDS} s")
            if traced.hit is not None:
                faults += self._judged(container)
                return Result(name, point, errno, True, faults, None, 0.0)
            self._clear(container)
        return Result(name, point, errno, False, [], None, 0.0)

    # --- one run

    def _traced(self, name: str) -> tuple[str, Tracer]:
        self._count += 1
        container = f"sweep-{os.getpid()}-{self._count}"
        before, command = COMMANDS[name]
        for each in before:
            done = self._runc(each, container)
            if done.returncode:
                raise RuntimeError(f"runc {each}: {done.stderr.decode()}")
        if command == "delete":
            reality.settles(lambda: self._listed(container) != "stopped")
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            self._execute(ready, command, container)
        traced = Tracer(is_runc, lambda parent, place: f"{parent}.{place}")
        traced.attach(pid, "runc")
        os.close(ready)
        os.write(go, b"g")
        os.close(go)
        return container, traced

    def _arguments(self, command: str, container: str) -> list[str]:
        options = {"create": ["--bundle", self._bundle]}
        last = ["KILL"] if command == "kill" else []
        return [
            "runc",
            "--root",
            self._root,
            *command.split(),
            *options.get(command, []),
            container,
            *last,
        ]

    def _runc(self, command: str, container: str) -> subprocess.CompletedProcess[bytes]:
        # By a file and not by a pipe: what it leaves keeps that open.
        with open(self._said, "w+b") as said:
            done = subprocess.run(
                self._arguments(command, container),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=_SECONDS,
                check=False,
            )
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, b"", said.read())

    def _execute(self, ready: int, command: str, container: str) -> NoReturn:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)
            said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.read(ready, 1)
            tracer.mark(tracer.BEGIN)
            os.execvp("runc", self._arguments(command, container))
        finally:
            os._exit(127)

    # --- what is true afterwards

    def _list(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["runc", "--root", self._root, "list", "--format", "json"],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        found: list[dict[str, Any]] = json.loads(done.stdout) or []
        return found

    def _listed(self, container: str) -> str:
        return next((str(each["status"]) for each in self._list() if each["id"] == container), "")

    def _judged(self, container: str) -> list[str]:
        faults = []

        def lies() -> list[str]:
            alive = self._alive()
            said = self._listed(container)
            true = {
                "": not alive,
                "stopped": not alive,
                "created": any(each.comm.startswith("runc") for each in alive),
                "running": any(each.comm == "pause" for each in alive),
            }
            return [] if true.get(said, False) else [f"it is {said or 'not listed'}, and {alive}"]

        try:
            if wrong := reality.settles(lies, seconds=_SETTLING_SECONDS):
                faults.append(f"a lie: {wrong}")
        except RuntimeError as error:
            faults.append(f"list: {error}")
        try:
            done = self._runc("delete --force", container)
            if done.returncode:
                faults.append(f"delete --force: {done.stderr.decode()}")
        except subprocess.TimeoutExpired:
            faults.append("delete --force hangs")
        for what, left in (
            ("processes", self._alive),
            ("cgroups", lambda: self._cgroups(container)),
            ("files", lambda: [each for each in os.listdir(self._root) if each == container]),
        ):
            if there := reality.settles(left, seconds=_SETTLING_SECONDS):
                faults.append(f"{what} left: {there}")
        self._clear(container)
        return faults

    def _alive(self) -> list[Seen]:
        return reality.below()

    @staticmethod
    def _cgroups(container: str) -> list[str]:
        found = []
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            names = (
                controllers.removeprefix("name=").split(",") if controllers else ["unified", "."]
            )
            for name in names:
                each = os.path.normpath(f"/sys/fs/cgroup/{name}/{path}/{container}")
                if os.path.isdir(each):
                    found.append(each)
        return found

    def _clear(self, container: str) -> None:
        for each in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        reality.settles(self._alive, seconds=_SETTLING_SECONDS)
        for path in self._cgroups(container):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for path in [line.split()[1] for line in mounts if self._directory in line]:
            subprocess.run(["umount", "--lazy", path], check=False)
        for name in os.listdir(self._root):
            shutil.rmtree(f"{self._root}/{name}", ignore_errors=True)


def _make_bundle(directory: str) -> None:
    """A bundle as `runc spec` makes it, whose one program sleeps."""
    rootfs = f"{directory}/rootfs"
    os.makedirs(rootfs)
    source = f"{directory}/pause.c"
    Path(source).write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["gcc", "-static", "-o", f"{rootfs}/pause", source], check=True)
    subprocess.run(["runc", "spec", "--bundle", directory], check=True)
    path = Path(directory, "config.json")
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/pause"]
    path.write_text(json.dumps(config))
