"""Spec: what a container is made from, checked once and never changed.

Whichever way a spec comes, it goes through the same door: its JSON bytes are decoded and checked, and
these bytes are what is stored, with the properties this version doesn't know.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci._encode import (
    argument_list,
    encode,
    env_list,
    hook_lists,
    plain_text,
    rlimit_list,
)
from asyncrt.oci.bundle import CONFIG_NAME, decode_config, read_config
from asyncrt.oci.defaults import DEFAULT_PATH
from asyncrt.oci.sandbox_config import resources_of, sandbox_config
from asyncrt.oci.users import own_user, resolve_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncrt.oci.config import Config, Hook

OCI_VERSION = "1.2.0"


@dataclass(frozen=True, slots=True, repr=False)
class Spec:
    """A container's configuration, and the bundle it came from, if it did.

    Make one with `command`, `sandbox`, `from_bundle` or `decode`. Immutable, comparable and picklable; one spec
    may make any number of containers.
    """

    _data: bytes
    bundle: str | None = None  # absolute path of the bundle's directory
    path: str | None = field(default=None, compare=False)  # file to name in errors
    config: Config = field(init=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_no_bytes(self._data)
        object.__setattr__(self, "config", decode_config(self._data, path=self.path))

    def __reduce__(self) -> tuple[object, ...]:
        # A decoded config holds views into the bytes and read-only maps: neither pickles.
        return Spec, (self._data, self.bundle, self.path)

    def __repr__(self) -> str:
        process = self.config.process
        args = list(process.args or ()) if process is not None else None
        return f"Spec(args={args!r}, bundle={self.bundle!r})"

    def encoded(self) -> bytes:
        """The config.json, byte for byte as it came."""
        return self._data

    @classmethod
    def decode(
        cls, data: bytes | bytearray, *, bundle: str | None = None, path: str | None = None
    ) -> Spec:
        """A spec from the bytes of a config.json; `path` is the file that errors name.

        Raises SpecInvalid.
        """
        _refuse_no_bytes(data)
        return cls(bytes(data), bundle, path)

    @classmethod
    def from_bundle(cls, path: str | os.PathLike[str]) -> Spec:
        """A spec from a bundle: the directory that has a config.json. Reads the file, so it blocks.

        Raises SpecInvalid, naming the file, if that is missing, unreadable, no regular file, over
        16 MiB, or no valid config.
        """
        given: object = path
        if not isinstance(given, str | os.PathLike):
            why = f"a bundle is the path of a directory, not {given!r:.40}"
            raise SpecInvalid(json_path="", why=why)
        bundle = os.path.abspath(os.fspath(path))
        file = os.path.join(bundle, CONFIG_NAME)
        try:
            bundle.encode()
        except UnicodeEncodeError:
            shown = ascii(bundle)
            why = "the path isn't UTF-8, so that records couldn't name it"
            raise SpecInvalid(json_path="", why=why, path=shown) from None
        return cls(read_config(file), bundle, file)

    @classmethod
    def command(
        cls,
        args: Iterable[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/",
        user: int | str | None = None,
        memory: int | str | None = None,
        pids: int | None = None,
        cpu: float | None = None,
        umask: int | None = None,
        rlimits: Mapping[str, tuple[int, int]] | None = None,
        no_new_privs: bool = False,
        oom_score_adj: int | None = None,
        annotations: Mapping[str, str] | None = None,
        hooks: Mapping[str, Iterable[Hook]] | None = None,
    ) -> Spec:
        """A spec that runs one program and asks for no isolation.

        With one of memory, pids and cpu it needs a cgroup of its own: root, or a delegated tree.

        Args:
            args: The program and its arguments. A name without a slash is looked up in `env`'s PATH.
            env: All of its environment; nothing is inherited. PATH gets a default when missing.
            cwd: Absolute path of its working directory.
            user: A uid, "uid", "name", "uid:gid" or "name:group"; names are resolved here and now
                (which may block on a network's user database), a name alone with its supplementary
                groups. None: as the process that launches it.
            memory: Bytes, or a text like "256M"; no swap beside it.
            pids: How many processes and threads there may be.
            cpu: How many CPUs' time it may use; 0.5 is half of one.
            umask: Its file mode creation mask; None: inherited.
            rlimits: (soft, hard) by name ("NOFILE" or "RLIMIT_NOFILE"); -1 is unlimited.
            no_new_privs: Nothing it executes gains privileges (set-user-id and the like).
            oom_score_adj: -1000 to 1000 (proc(5)); None: inherited.
            annotations: Metadata; also decides membership in a sandbox.
            hooks: Hooks by OCI's kinds: prestart, createRuntime, createContainer, startContainer,
                poststart, poststop.

        Raises SpecInvalid with the JSON path of what is wrong.
        """
        env = {} if env is None else env
        process: dict[str, object] = {
            "args": argument_list(args),
            "env": env_list(env),
            "cwd": plain_text(cwd, "process.cwd"),
        }
        if "PATH" not in env:
            process["env"] = [f"PATH={DEFAULT_PATH}", *env_list(env)]
        if user is not None:
            process["user"] = resolve_user(user, umask=umask, json_path="process.user")
        elif umask is not None:
            # OCI has no umask without ids.
            process["user"] = own_user(umask=umask)
        if rlimits:
            process["rlimits"] = rlimit_list(rlimits)
        if no_new_privs:
            process["noNewPrivileges"] = no_new_privs
        if oom_score_adj is not None:
            process["oomScoreAdj"] = oom_score_adj
        config: dict[str, object] = {"ociVersion": OCI_VERSION, "process": process}
        if resources := resources_of(memory, pids, cpu):
            config["linux"] = {"resources": resources}
        if annotations:
            config["annotations"] = dict(annotations)
        if hooks:
            config["hooks"] = hook_lists(hooks)
        return cls(encode(config))

    @classmethod
    def sandbox(
        cls,
        args: Iterable[str | os.PathLike[str]],
        *,
        rootfs: str | os.PathLike[str] | None = None,
        host_root_readonly: bool = False,
        writable: Iterable[str | os.PathLike[str]] = (),
        readable: Iterable[str | os.PathLike[str]] = (),
        network: bool = False,
        memory: int | str | None = None,
        pids: int | None = None,
        cpu: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/",
        user: int | str | None = None,
        umask: int | None = None,
        hostname: str | None = None,
        capabilities: Iterable[str] | None = None,
        rlimits: Mapping[str, tuple[int, int]] | None = None,
        oom_score_adj: int | None = None,
        annotations: Mapping[str, str] | None = None,
        hooks: Mapping[str, Iterable[Hook]] | None = None,
    ) -> Spec:
        """A spec that runs one program in namespaces of its own, made for the calling user.

        It sees its own processes, mounts, users and, unless `network`, an empty network. What it may
        ask of the kernel is what podman and containerd allow by default, and nothing it executes
        gains privileges. An ordinary user's container has its user as root inside (with the ids of
        /etc/subuid, where there are any and newuidmap is installed), or, on the host's root, as
        itself.

        Args:
            args: The program and its arguments. A name without a slash is looked up in `env`'s PATH.
            rootfs: The directory that is its root.
            host_root_readonly: Its root is the host's, read-only all the way down, with nothing in
                /run, /tmp, /var/tmp, $XDG_RUNTIME_DIR and $TMPDIR, and no UNIX socket that is
                bound now. It may read what its user may. Either this or `rootfs`.
            writable: Directories (or files) of the host that it may write to, at the same place.
            readable: The same, read-only: what is below /tmp, say.
            network: Share the host's network.
            memory: Bytes, or a text like "256M"; no swap beside it.
            pids: How many processes and threads there may be.
            cpu: How many CPUs' time it may use; 0.5 is half of one.
            env: All of its environment; nothing is inherited. PATH gets a default when missing.
            cwd: Absolute path of its working directory inside.
            user: As by `command`, inside; names and groups are looked up in the rootfs' own
                /etc/passwd and /etc/group. None: root, or the caller's own ids on the host's root.
            umask: Its file mode creation mask; None: inherited.
            hostname: Its host name; None: the host's.
            capabilities: CAP_… names it has. None: podman's defaults, for root inside only.
            rlimits: As by `command`.
            oom_score_adj: As by `command`.
            annotations: As by `command`.
            hooks: As by `command`.

        Raises SpecInvalid with the JSON path of what is wrong. Blocks: it reads the user database.
        """
        command = cls.command(
            args,
            env=env,
            cwd=cwd,
            rlimits=rlimits,
            oom_score_adj=oom_score_adj,
            annotations=annotations,
            hooks=hooks,
        )
        config: dict[str, object] = msgspec.json.decode(command.encoded())
        process, rest = sandbox_config(
            rootfs=rootfs,
            host_root_readonly=host_root_readonly,
            writable=writable,
            readable=readable,
            network=network,
            memory=memory,
            pids=pids,
            cpu=cpu,
            user=user,
            umask=umask,
            hostname=hostname,
            capabilities=capabilities,
        )
        base = config["process"]
        config["process"] = {**base, **process} if isinstance(base, dict) else process
        return cls(encode({**config, **rest}))


def _refuse_no_bytes(data: object) -> None:
    if not isinstance(data, bytes | bytearray):
        why = f"expected the bytes of a config.json, found {data!r:.40}; Spec.command([...]) makes one"
        raise SpecInvalid(json_path="", why=why)


def annotated(spec: Spec, added: Mapping[str, str]) -> Spec:
    """The same with more annotations; all the rest is, byte for byte, as it was.

    What is known to be valid isn't decoded and checked again.
    """
    annotations = {**(spec.config.annotations or {}), **added}
    top = msgspec.json.decode(spec.encoded(), type=dict[str, msgspec.Raw])
    top["annotations"] = msgspec.Raw(encode(annotations))
    made = object.__new__(Spec)
    for name, value in (
        ("_data", msgspec.json.encode(top)),
        ("bundle", spec.bundle),
        ("path", spec.path),
        ("config", msgspec.structs.replace(spec.config, annotations=annotations)),
    ):
        object.__setattr__(made, name, value)
    return made
