"""The OCI state of a container (runtime.md, State), as hooks and the `state` command give it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def state_report(
    *,
    oci_version: str,
    id: str,
    status: str,
    pid: int | None,
    bundle: str | None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The state as a dict that json takes.

    `pid` is init's, and left out when there is none: in creating before init exists, and in stopped,
    where the number may already be somebody else's. `bundle` is required by the specification, so a
    container made without one has "". Paused isn't one of OCI's own statuses; the specification
    lets a runtime have more.
    """
    report: dict[str, object] = {"ociVersion": oci_version, "id": id, "status": status}
    if pid and status != "stopped":
        report["pid"] = pid
    report["bundle"] = bundle or ""
    report["annotations"] = dict(annotations or {})
    return report
