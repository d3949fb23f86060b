"""OCI hooks as plans: what the launch code needs to run them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from asyncrt.launch.plan import HookPlan
    from asyncrt.oci.config import Config, Hook

    HookKind = Literal[
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
    ]

_FIELDS: dict[HookKind, str] = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
HOOK_KINDS: tuple[HookKind, ...] = tuple(_FIELDS)  # in the order of a container's life


def hook_plans(config: Config, kind: HookKind) -> list[HookPlan]:
    """The hooks of one kind, in their order; empty when there are none.

    `args` is never empty: without any it is the path. `env` has each name once, the last value
    given. `timeout` is in seconds.
    """
    if config.hooks is None:
        return []
    hooks: tuple[Hook, ...] | None = getattr(config.hooks, _FIELDS[kind])
    return [_plan(each) for each in hooks or ()]


def _plan(hook: Hook) -> HookPlan:
    return {
        "path": hook.path,
        "args": list(hook.args or ()) or [hook.path],
        "env": merge_env(hook.env or ()),
        "timeout": None if hook.timeout is None else float(hook.timeout),
    }


def merge_env(env: tuple[str, ...] | list[str]) -> list[str]:
    """NAME=value with each name once: the last value, at the place of the first."""
    values = {entry.partition("=")[0]: entry for entry in env}
    return list(values.values())
