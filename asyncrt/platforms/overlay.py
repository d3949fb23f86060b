"""What a container's writes go to instead of its root file system: `overlay=` of create."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asyncrt.errors import SpecInvalid
from asyncrt.oci.sandbox_config import parse_size

if TYPE_CHECKING:
    from asyncrt.launch.plan import OverlayPlan

PathLike = str | os.PathLike[str]

_AT = "overlay"
_DISK = "/var/tmp"  # noqa: S108 - a directory of our own is made there, with a name nobody has


@dataclass(frozen=True, slots=True)
class Overlay:
    """A writable layer over a root file system that stays as it is.

    Made by `memory`, `disk` and `upper`.
    """

    kind: Literal["memory", "disk", "kept"]
    path: str | None = None
    size: int | None = None

    @classmethod
    def memory(cls, size: int | str | None = None) -> Overlay:
        """A layer in memory, gone with the container.

        `size` bounds it: bytes, or a text like "64M"; as many files fit as it has KiB. None: half of
        the machine's memory. What is written counts as its writer's, for a limit of the container's.
        Raises SpecInvalid.
        """
        return cls("memory", size=None if size is None else parse_size(size, _AT))

    @classmethod
    def disk(cls, path: PathLike | None = None, size: int | str | None = None) -> Overlay:
        """A layer in a directory made below `path` (None: /var/tmp), gone with the container.

        `size` bounds it, as memory's: bytes, or a text like "1G". It gets a file system of its own
        then, whose space is taken at once; only root can have that. None: as much as there is.
        Raises SpecInvalid.
        """
        bytes = None if size is None else parse_size(size, _AT)
        return cls("disk", path=_absolute(_DISK if path is None else path), size=bytes)

    @classmethod
    def upper(cls, path: PathLike) -> Overlay:
        """A layer that is kept: what is written goes to the directory `path`, made if missing.

        What is in it already was written before, and the container goes on with it. One container at
        a time has it. Its file system also holds a working directory beside it for that long.
        Raises SpecInvalid.
        """
        return cls("kept", path=_absolute(path))


def plan_overlay(overlay: Overlay, name: str) -> OverlayPlan:
    """The overlay as the launch code is to make it; `name` is nobody else's. Raises SpecInvalid."""
    given: object = overlay
    if not isinstance(given, Overlay):
        raise SpecInvalid(
            json_path=_AT, why=f"{given!r:.40} is no Overlay, such as Overlay.memory('64M')"
        )
    upper = made = ""
    if overlay.path is not None and overlay.kind == "disk":
        made = os.path.join(overlay.path, name)
        upper = f"{made}/upper"
    elif overlay.path is not None:
        upper = overlay.path
        directory, base = os.path.split(upper)
        made = os.path.join(directory, f".{base[:100]}.{name}")
    return {
        "kind": overlay.kind,
        "size": overlay.size,
        "upper": upper,
        "made": made,
        "fresh": overlay.kind != "kept",
        "locked": -1,
        "mkfs": _mkfs() if overlay.kind == "disk" and overlay.size is not None else "",
    }


def refused_overlay(plan: OverlayPlan) -> str:
    """Why this user can't have it on this machine; "" if there is nothing that is known."""
    if plan["kind"] != "disk" or plan["size"] is None:
        return ""
    if os.geteuid() != 0:
        return "only root can give a layer on disk a size"
    return "" if plan["mkfs"] else "a layer on disk with a size needs mkfs.ext4 (e2fsprogs)"


def _mkfs() -> str:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return shutil.which("mkfs.ext4", path=places) or ""


def _absolute(path: PathLike) -> str:
    given: object = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str) or not _can_be_recorded(given):
        raise SpecInvalid(json_path=_AT, why=f"expected a directory's path, found {path!r}")
    found = os.path.abspath(given)
    if not found.strip("/"):  # two of them stay two (POSIX)
        raise SpecInvalid(json_path=_AT, why="the root directory can't be a layer")
    return found


def _can_be_recorded(path: str) -> bool:
    try:
        return bool(path.encode()) and "\0" not in path
    except UnicodeEncodeError:
        return False
