"""Sandboxes of the linux platform: with namespaces, mounts of each kind, cgroups and limits.

They are for root, over a root file system that the sweep makes. What may be left of them besides
processes and files is looked for here: mounts, and cgroups, which are known by their instances.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import psutil

import asyncrt
from asyncrt import _paths
from asyncrt.oci.default_seccomp import default_seccomp
from tests.helpers import capabilities, reality, sandboxes
from tests.helpers.containers import shell_hook
from tests.sweep import outputs
from tests.sweep.verb import ID, MARK, Verb, execute, null, warm

if TYPE_CHECKING:
    from asyncrt import Container, Engine

NAME = "sandbox"
_CGROUPS = "/sys/fs/cgroup"
_DEEPEST = 20
_BEFORE = "before"  # what a kept layer has in it


def hooks(*kinds: str) -> dict[str, list[dict[str, Any]]]:
    """One of each of these kinds, as a config has it, which does nothing."""
    found = shell_hook("exit 0")
    return {kind: [{"path": found.path, "args": list(found.args or ())}] for kind in kinds}


_HOOKS = hooks(
    *("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
)


def can_be_swept() -> bool:
    """Whether this machine can make them all."""
    return (
        capabilities.is_root()
        and shutil.which("busybox") is not None
        and capabilities.has_cgroups("memory", "pids")
    )


def rootfs_beside(root: str) -> str:
    """Where the sandboxes of an engine's root have their files."""
    return os.path.join(os.path.dirname(root), "rootfs")


def layers_beside(root: str) -> str:
    """Where the layers of an engine's sandboxes are."""
    return os.path.join(os.path.dirname(root), "layers")


def kept_beside(root: str) -> str:
    """A layer that is kept, and was written to before."""
    return os.path.join(layers_beside(root), "kept")


def make_rootfs(root: str) -> None:
    """Make it, once, and a place for layers, one of which is there."""
    path = sandboxes.make_rootfs(rootfs_beside(root))
    os.makedirs(kept_beside(root))
    with open(os.path.join(kept_beside(root), _BEFORE), "w") as file:
        file.write("kept")
    os.chmod(os.path.dirname(path), 0o711)  # root inside a user namespace has to come by
    with open(f"{path}/data/file", "w") as file:
        file.write("copied up")


def config(rootfs: str, who: str, *args: str) -> dict[str, Any]:
    """A sandbox with something of each kind that can be left, over that root file system."""
    made = sandboxes.config(rootfs, [*(args or ("/bin/sleep", "1000"))], who=who)
    made["process"]["env"] += [f"{name}={value}" for name, value in reality.marking(MARK).items()]
    made["mounts"] += [
        sandboxes.mount("/data", "tmpfs", "tmpcopyup"),
        sandboxes.mount("/etc", "bind", "rbind", "rro", source=f"{rootfs}/etc"),
        sandboxes.mount("/sys/fs/cgroup", "cgroup", "ro"),
    ]
    limits = {"memory": {"limit": 1 << 28}, "pids": {"limit": 64}}
    made["linux"] |= {
        "resources": limits,
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": default_seccomp([]),
    }
    made["process"]["noNewPrivileges"] = True
    if who == sandboxes.MAPPED:
        made["linux"]["namespaces"].append({"type": "time"})
        made["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
    return made


class _Kind:
    """The verbs of one who makes them."""

    def __init__(self, who: str) -> None:
        self._who = who

    def _spec(self, engine: Engine, *args: str, **more: Any) -> asyncrt.Spec:
        return sandboxes.spec({**config(rootfs_beside(engine.root), self._who, *args), **more})

    async def created(self, engine: Engine) -> Container:
        return await engine.create(ID, spec=self._spec(engine), **null())

    async def hooked(self, engine: Engine) -> Container:
        return await engine.create(ID, spec=self._spec(engine, hooks=_HOOKS), **null())

    async def running(self, engine: Engine) -> Container:
        container = await self.created(engine)
        await container.start()
        return container

    async def paused(self, engine: Engine) -> Container:
        container = await self.running(engine)
        await container.pause()
        return container

    async def layered(self, engine: Engine) -> Container:
        """With a layer on disk, and a gofer that holds it."""
        overlay = asyncrt.Overlay.disk(layers_beside(engine.root))
        return await engine.create(ID, spec=self._spec(engine), overlay=overlay, **null())

    async def kept(self, engine: Engine) -> Container:
        """With a layer that was there before, and is afterwards."""
        overlay = asyncrt.Overlay.upper(kept_beside(engine.root))
        return await engine.create(ID, spec=self._spec(engine), overlay=overlay, **null())

    async def at_terminal(self, engine: Engine, state: tuple[None, int]) -> None:
        """With a terminal that goes over a console socket."""
        options: Any = {"spec": self._spec(engine), "terminal": True}
        await outputs.over_console(
            engine, state[1], lambda path: engine.create(ID, console_socket=path, **options)
        )

    async def layered_stopped(self, engine: Engine) -> Container:
        container = await self.layered(engine)
        await container.start()
        await container.kill("KILL")
        await container.wait()
        return container

    async def run(self, engine: Engine, _: None) -> None:
        await engine.run(ID, spec=self._spec(engine, "/bin/true"), **null())

    def verbs(self) -> dict[str, Verb]:
        return {
            "create": Verb(warm, lambda e, _: self.created(e), creates=True),
            "create hooks": Verb(warm, lambda e, _: self.hooked(e), creates=True),
            "start": Verb(self.created, lambda e, c: c.start()),
            "start hooks": Verb(self.hooked, lambda e, c: c.start()),
            "exec": Verb(self.running, lambda e, c: execute(c)),
            "pause": Verb(self.running, lambda e, c: c.pause()),
            "resume": Verb(self.paused, lambda e, c: c.resume()),
            "update": Verb(self.running, lambda e, c: c.update(change())),
            "kill all": Verb(self.running, lambda e, c: c.kill("KILL", all=True)),
            "destroy": Verb(self.running, lambda e, c: c.destroy(), stops=True),
            "destroy created": Verb(self.created, lambda e, c: c.destroy(), stops=True),
            "destroy paused": Verb(self.paused, lambda e, c: c.destroy(), stops=True),
            "destroy hooks": Verb(self.hooked, lambda e, c: c.destroy(), stops=True),
            "delete force": Verb(self.running, lambda e, _: e.delete(ID, force=True), stops=True),
            "run": Verb(warm, self.run, creates=True, in_steps=True),
            "create layered": Verb(warm, lambda e, _: self.layered(e), creates=True),
            "export": Verb(self.layered, lambda e, c: export(c)),
            "kill layered": Verb(self.layered, lambda e, c: c.kill("KILL", all=True)),
            "destroy layered": Verb(self.layered, lambda e, c: c.destroy(), stops=True),
            "delete layered": Verb(self.layered_stopped, lambda e, c: c.delete()),
            "create kept": Verb(warm, lambda e, _: self.kept(e), creates=True),
            "destroy kept": Verb(self.kept, lambda e, c: c.destroy(), stops=True),
            "create console": outputs.of_console(warm, self.at_terminal),
        }


def change() -> dict[str, Any]:
    """Other limits, one of them in a hierarchy where the sandbox had no cgroup, if there is one."""
    cpu = {"cpu": {"shares": 512}} if capabilities.has_cgroups("cpu") else {}
    return {"memory": {"limit": 1 << 27}, "pids": {"limit": 32}, **cpu}


async def export(container: Container) -> None:
    """All of what it wrote."""
    async for _ in container.export():
        pass


def verbs() -> dict[str, Verb]:
    """By name; the word sandbox or mapped sandbox comes first."""
    found = {f"{NAME} {name}": verb for name, verb in _Kind(sandboxes.ROOT).verbs().items()}
    mapped = _Kind(sandboxes.MAPPED).verbs()
    for name in ("create", "exec", "run", "create layered"):
        found[f"{NAME} mapped {name}"] = mapped[name]
    return found


def strange_layers(root: str) -> list[str]:
    """What is among the layers of an engine's sandboxes, but the one that is kept."""
    return sorted({*os.listdir(layers_beside(root))} - {os.path.basename(kept_beside(root))})


class Left:
    """What sandboxes of one root have left on the machine."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._instances: set[str] = set()
        self._last: list[str] = []
        self._told: set[str] = set()

    def __call__(self) -> list[str]:
        """Mounts, cgroups, layers and gofers of any that there ever was."""
        self._instances |= _instances(self._root)
        self._last = [each for each in self._found() if each not in self._told]
        return self._last

    def forget(self) -> None:
        """What was found last is told, and no fault of the next."""
        self._told.update(self._last)

    def _found(self) -> list[str]:
        found = sandboxes.mounts_below(rootfs_beside(self._root), layers_beside(self._root))
        layers = layers_beside(self._root)
        found += strange_layers(self._root)
        found += [f"{each} is locked" for each in reality.locked_files(layers)]
        if os.listdir(kept_beside(self._root)) != [_BEFORE]:
            found.append(f"kept: {os.listdir(kept_beside(self._root))}")
        found += [f"gofer {each.pid}" for each in psutil.process_iter() if _is_gofer(each)]
        # Others' may be deeper than a recursion goes, and are none of ours.
        for path, directories, _ in os.walk(_CGROUPS):
            ours = [name for name in directories if name.startswith("asyncrt-")]
            found += [
                f"{path}/{name}" for name in ours if name.rpartition(".")[2] in self._instances
            ]
            directories[:] = [] if path.count("/") > _DEEPEST else [*set(directories) - set(ours)]
        return found


def _is_gofer(process: psutil.Process) -> bool:
    """Whether it is one of this sweep's."""
    with contextlib.suppress(psutil.Error):
        return process.name() == _paths.GOFER_COMM and any(
            each.pid == os.getpid() for each in process.parents()
        )
    return False


def _instances(root: str) -> set[str]:
    """Of every container that the log of events tells of: the beginnings that cgroups have."""
    found = set()
    for name in ("~events", "~events.1"):
        try:
            with open(f"{root}/{name}", "rb") as lines:
                for line in lines:
                    instance = json.loads(line).get("instance", "")
                    found.add(instance[:8])
        except (FileNotFoundError, ValueError):
            continue
    return found
