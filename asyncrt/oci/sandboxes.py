"""Whether a config is a sandbox of its own or a container in one: annotations of containerd and CRI-O.

containerd's are looked at first. Without any, a container is the root of its own sandbox.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncrt.errors import SpecInvalid
from asyncrt.oci._why import child
from asyncrt.oci.spec import annotated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.oci.config import Config
    from asyncrt.oci.spec import Spec

_DIALECTS = (
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
)


class Membership(NamedTuple):
    """Where a container belongs.

    `sandbox_id` is set for a container in somebody else's sandbox only. `json_path` is that of the
    annotation that says so, for errors, and `id_path` that of the sandbox's id; empty if there is none.
    """

    is_sandbox: bool  # the annotations say "sandbox": a pause container, not a workload
    sandbox_id: str | None
    json_path: str
    id_path: str = ""


def is_sandbox(config: Config) -> bool:
    """Whether the annotations say so. Any other word of them, be it none of ours, says that it isn't."""
    annotations = config.annotations or {}
    kinds = (annotations.get(type_key) for type_key, _ in _DIALECTS)
    return next((kind for kind in kinds if kind is not None), None) == "sandbox"


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
        id_path = child("annotations", id_key)
        if not sandbox_id:
            raise SpecInvalid(json_path=id_path, why="is required and missing")
        return Membership(is_sandbox=False, sandbox_id=sandbox_id, json_path=at, id_path=id_path)
    return Membership(is_sandbox=False, sandbox_id=None, json_path="")


def placed(spec: Spec, sandbox_id: str | None) -> Spec:
    """The same, said to be a container of that sandbox; None: one that others are to come beside.

    Raises SpecInvalid for one that says otherwise.
    """
    member = membership(spec.config)
    if member.json_path:
        if member.is_sandbox != (sandbox_id is None) or member.sandbox_id != sandbox_id:
            wanted = "a sandbox" if sandbox_id is None else f"a container of {sandbox_id!r}"
            why = f"it is to be {wanted}; leave the annotation out"
            raise SpecInvalid(json_path=member.json_path, why=why, path=spec.path)
        return spec
    kind, of = _DIALECTS[0]
    added = {kind: "sandbox"} if sandbox_id is None else {kind: "container", of: sandbox_id}
    return annotated(spec, added)
