"""Whether a config is a sandbox of its own or a container in one: annotations of containerd and CRI-O.

containerd's are looked at first. Without any, a container is the root of its own sandbox.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncrt.errors import SpecInvalid
from asyncrt.oci._why import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.oci.config import Config

_DIALECTS = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
)


class Membership(NamedTuple):
    """Where a container belongs.

    `sandbox_id` is set for a container in somebody else's sandbox only. `json_path` is that of the
    annotation that says so, for errors; empty if there is none.
    """

    is_sandbox: bool  # the annotations say "sandbox": a pause container, not a workload
    sandbox_id: str | None
    json_path: str


def membership(config: Config) -> Membership:
    """What the annotations say. SpecInvalid: an unknown type, or a container without a sandbox."""
    annotations = config.annotations or {}
    for type_key, id_key in _DIALECTS:
        kind = annotations.get(type_key)
        if kind is None:
            continue
        at = child("annotations", type_key)
        if kind == "sandbox":
            return Membership(is_sandbox=True, sandbox_id=None, json_path=at)
        if kind != "container":
            why = f"unknown container type {kind!r}; it is sandbox or container"
            raise SpecInvalid(json_path=at, why=why)
        sandbox_id = annotations.get(id_key)
        if not sandbox_id:
            raise SpecInvalid(json_path=child("annotations", id_key), why="is required and missing")
        return Membership(is_sandbox=False, sandbox_id=sandbox_id, json_path=at)
    return Membership(is_sandbox=False, sandbox_id=None, json_path="")
