"""Every field of a config.json: honoured, which a test sees, or refused by its own path.

One that is decoded and then forgotten would be something asked for that silently isn't there.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import config as oci
from asyncrt.platforms import linux
from tests.helpers.processes import REPOSITORY
from tests.helpers.sandboxes import config, spec

_INSIDE = "process/test_linux_inside.py::test_it_is_inside_as_asked"
_PRIVILEGES = "process/test_linux_privileges.py::"
_MOUNTS = "process/test_linux_mounts.py::"
_MAPPED = "process/test_linux_mapped_mounts.py::"
_FIELDS = "process/test_linux_fields.py::"
_LIMITS = "process/cgroups/test_limits.py::test_every_limit_that_this_machine_has_is_in_force"
_WRITES = "unit/test_cgroup_plans.py::test_version_1_gets_these_writes"  # and those of version 2
_VERDICTS = "unit/test_linux_seccomp.py::test_the_verdicts_are_those_of_libseccomp"
_HOOKS = "process/test_linux_hooks.py::test_hooks_run_in_order_and_in_their_namespaces"

# By field, or by the beginning of several: the test that sees it honoured.
HONOURED = {
    "ociVersion": "unit/test_oci_config.py::test_every_version_1_of_the_specification_is_accepted",
    "process.cwd": _INSIDE,
    "process.args": "process/test_linux_inside.py::test_the_process_is_the_first_of_its_pid_namespace",
    "process.env": _INSIDE,
    "process.user.uid": "process/test_linux_users.py::test_ids_and_umask_are_those_of_the_config",
    "process.user.gid": "process/test_linux_users.py::test_ids_and_umask_are_those_of_the_config",
    "process.user.umask": _INSIDE,
    "process.user.additionalGids": (
        "process/test_linux_inside.py::test_additional_groups_are_those_of_the_config"
    ),
    "process.terminal": "process/test_linux_life.py::test_a_terminal_is_one_of_the_containers_own",
    "process.consoleSize": "process/test_linux_life.py::test_a_terminal_is_one_of_the_containers_own",
    "process.rlimits": _INSIDE,
    "process.noNewPrivileges": f"{_FIELDS}test_no_new_privileges_is_asked_for_and_else_not",
    "process.oomScoreAdj": _INSIDE,
    "process.capabilities": f"{_PRIVILEGES}test_all_sets_are_held_before_the_exec_changes_them",
    "process.apparmorProfile": f"{_PRIVILEGES}test_a_label_is_written_where_the_kernel_takes_it",
    "process.selinuxLabel": f"{_PRIVILEGES}test_a_label_is_written_where_the_kernel_takes_it",
    "process.scheduler": f"{_FIELDS}test_the_scheduler_is_set_in_one_call",
    "process.ioPriority": f"{_PRIVILEGES}test_input_and_output_have_their_priority",
    "process.execCPUAffinity": f"{_PRIVILEGES}test_an_execd_process_runs_where_it_may",
    "root.path": "process/test_linux_inside.py::test_the_root_holds_its_own_files_only",
    "root.readonly": f"{_MOUNTS}test_a_read_only_root_takes_all_that_is_mounted_in_it_along",
    "hostname": _INSIDE,
    "domainname": _INSIDE,
    "mounts[].destination": f"{_MOUNTS}test_a_missing_destination_is_made_inside",
    "mounts[].type": "process/test_linux_inside.py::test_mounts_have_their_flags",
    "mounts[].source": f"{_MOUNTS}test_a_relative_source_is_below_the_bundle",
    "mounts[].options": f"{_MOUNTS}test_options_do_what_they_say_and_the_last_one_counts",
    "mounts[].uidMappings": f"{_MAPPED}test_an_id_map_shows_other_owners_and_writes_them_back",
    "mounts[].gidMappings": f"{_MAPPED}test_an_id_map_shows_other_owners_and_writes_them_back",
    "hooks.prestart": _HOOKS,
    "hooks.createRuntime": _HOOKS,
    "hooks.createContainer": _HOOKS,
    "hooks.startContainer": _HOOKS,
    "hooks.poststart": _HOOKS,
    "hooks.poststop": _HOOKS,
    "annotations": "unit/test_oci_spec.py::test_annotations_decide_membership",
    "linux.namespaces[].type": "process/test_linux_life.py::test_an_exec_joins_all_namespaces_before_and_after_the_start",
    "linux.namespaces[].path": (
        "process/test_linux_namespaces.py::test_namespaces_of_another_sandbox_are_joined_by_path"
    ),
    "linux.uidMappings": "process/test_linux_inside.py::test_ids_are_mapped",
    "linux.gidMappings": "process/test_linux_inside.py::test_ids_are_mapped",
    "linux.timeOffsets": f"{_FIELDS}test_both_clocks_have_their_offsets",
    "linux.devices": f"{_MOUNTS}test_devices_have_number_mode_and_owner",
    "linux.cgroupsPath": (
        "process/cgroups/test_places.py::test_a_path_is_made_as_far_as_it_is_missing_and_removed_so"
    ),
    "linux.resources.devices": "process/cgroups/test_limits.py::test_devices_are_allowed_by_rule",
    "linux.resources.memory": _WRITES,
    "linux.resources.memory.limit": _LIMITS,
    "linux.resources.cpu": _WRITES,
    "linux.resources.cpu.quota": _LIMITS,
    "linux.resources.pids": _LIMITS,
    "linux.resources.blockIO": _WRITES,
    "linux.resources.hugepageLimits": _WRITES,
    "linux.resources.network": _WRITES,
    "linux.resources.rdma": _WRITES,
    "linux.resources.unified": _WRITES,
    "linux.sysctl": _INSIDE,
    "linux.seccomp.defaultAction": f"{_PRIVILEGES}test_a_filter_is_in_force_for_the_program",
    "linux.seccomp.defaultErrnoRet": _VERDICTS,
    "linux.seccomp.architectures": _VERDICTS,
    "linux.seccomp.flags": f"{_PRIVILEGES}test_a_filter_is_in_force_for_the_program",
    "linux.seccomp.syscalls": _VERDICTS,
    "linux.rootfsPropagation": f"{_FIELDS}test_the_roots_propagation",
    "linux.maskedPaths": "process/test_linux_inside.py::test_it_is_refused_inside",
    "linux.readonlyPaths": "process/test_linux_inside.py::test_it_is_refused_inside",
    "linux.mountLabel": (
        "unit/test_linux_mount_plans.py::test_a_mount_label_is_for_all_that_is_mounted_new"
    ),
    "linux.personality.domain": (f"{_PRIVILEGES}test_the_execution_domain_is_the_personalitys"),
}

# By field: a value, and what it is refused as, which is the field if nothing is said.
REFUSED: dict[str, tuple[object, str]] = {
    "linux.netDevices": ({"eth0": {}}, ""),
    "linux.intelRdt": ({"closID": "guaranteed"}, ""),
    "linux.memoryPolicy": ({"mode": "MPOL_BIND", "nodes": "0"}, ""),
    "linux.seccomp.listenerPath": (
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x.sock"},
        "linux.seccomp.listenerPath",
    ),
    "linux.seccomp.listenerMetadata": (
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/x.sock",
            "listenerMetadata": "x",
        },
        "linux.seccomp.listenerPath",
    ),
    "linux.personality.flags[]": ({"domain": "LINUX", "flags": ["x"]}, "linux.personality.flags"),
    "vm": ({"kernel": {"path": "/vmlinuz"}}, ""),
    "windows": ({"layerFolders": ["x"]}, ""),
    "solaris": ({"milestone": "x"}, ""),
    "zos": ({"namespaces": [{"type": "pid"}]}, ""),
    "freebsd": ({"jail": {"parent": "x"}}, ""),
}


def _fields(part: Any, path: str = "") -> Iterator[str]:
    """The path of every field below a type, "[]" for the elements of a list."""
    if isinstance(part, types.UnionType):
        [part] = [each for each in part.__args__ if each is not types.NoneType]
    if typing.get_origin(part) is typing.Annotated:
        part = typing.get_args(part)[0]
    arguments = typing.get_args(part)
    if typing.get_origin(part) is tuple:
        yield from _fields(arguments[0], f"{path}[]")
    elif (
        arguments and isinstance(arguments[-1], type) and issubclass(arguments[-1], msgspec.Struct)
    ):
        yield from _fields(arguments[-1], path)
    elif isinstance(part, type) and issubclass(part, msgspec.Struct):
        for field in msgspec.structs.fields(part):
            name = f"{path}.{field.encode_name}" if path else field.encode_name
            yield from _fields(field.type, name)
    else:
        yield path


FIELDS = list(_fields(oci.Config))


def _entry(field: str) -> str | None:
    """The longest beginning of a field that the table has."""
    parts = re.findall(r"[^.\[]+(?:\[\])*", field)
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        for each in (name, name.removesuffix("[]")):
            if each in HONOURED:
                return each
    return None


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_honoured_or_refused(field: str) -> None:
    assert (_entry(field) is None) is (field in REFUSED), "it is in one of the two tables"


def test_the_tables_name_no_field_that_there_is_not() -> None:
    assert len(FIELDS) > 150
    assert set(REFUSED) <= set(FIELDS)
    unused = set(HONOURED) - {_entry(field) for field in FIELDS}
    assert unused == set()


@functools.cache
def _tests_in(name: str) -> set[str]:
    text = Path(REPOSITORY, "tests", name).read_text(encoding="utf-8")
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("where", sorted(set(HONOURED.values())))
def test_what_sees_it_is_there(where: str) -> None:
    file, _, name = where.partition("::")
    assert name in _tests_in(file)


@pytest.mark.needs_root
@pytest.mark.parametrize("field", REFUSED)
def test_what_cant_be_honoured_is_refused_by_its_path(field: str) -> None:
    value, told = REFUSED[field]
    at = told or field
    made = config("/rootfs", ["true"])
    place = made
    *above, last = field.split(".")
    if told:  # the value is of the object that the field is in
        *above, last = above
    for name in above:
        place = place.setdefault(name, {})
    place[last] = value
    with pytest.raises((SpecUnsupported, SpecInvalid)) as caught:
        linux.plan(spec(made))
    error = caught.value
    if isinstance(error, SpecInvalid):
        assert error.json_path == at
    else:
        assert isinstance(error, SpecUnsupported)
        assert error.fields == (at,)
