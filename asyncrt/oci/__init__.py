"""OCI's formats: a container's configuration, and the report of its state."""

from __future__ import annotations

from asyncrt.oci.bundle import decode_config
from asyncrt.oci.config import Config, Hook, Hooks, Process, Rlimit, User
from asyncrt.oci.defaults import DEFAULT_PATH
from asyncrt.oci.exec import complete_exec, derive_exec, process_of
from asyncrt.oci.homes import home_of, is_known
from asyncrt.oci.hooks import HOOK_KINDS, hook_plans, merge_env
from asyncrt.oci.sandbox_config import default_config
from asyncrt.oci.sandboxes import Membership, is_sandbox, membership, placed
from asyncrt.oci.spec import OCI_VERSION, Spec, annotated
from asyncrt.oci.state_report import state_report

load_bundle = Spec.from_bundle

__all__ = [
    "DEFAULT_PATH",
    "HOOK_KINDS",
    "OCI_VERSION",
    "Config",
    "Hook",
    "Hooks",
    "Membership",
    "Process",
    "Rlimit",
    "Spec",
    "User",
    "annotated",
    "complete_exec",
    "decode_config",
    "default_config",
    "derive_exec",
    "home_of",
    "hook_plans",
    "is_known",
    "is_sandbox",
    "load_bundle",
    "membership",
    "merge_env",
    "placed",
    "process_of",
    "state_report",
]
