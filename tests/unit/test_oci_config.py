"""Decoding a config.json: what is accepted, and where and why something isn't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Config, Process, decode_config
from tests.helpers.oci_configs import FULL


def decoded(config: object) -> Config:
    return decode_config(json.dumps(config).encode())


def refused(config: object) -> tuple[str, str]:
    with pytest.raises(SpecInvalid) as caught:
        decoded(config)
    return caught.value.json_path, caught.value.why


def changed(path: str, value: object) -> dict[str, Any]:
    """FULL with one place set; `path` is a JSON path without quoted keys."""
    config: Any = json.loads(json.dumps(FULL))
    at = config
    *parents, last = path.replace("[", ".[").split(".")
    for part in parents:
        at = at[int(part[1:-1])] if part.startswith("[") else at[part]
    at[int(last[1:-1]) if last.startswith("[") else last] = value
    return dict(config)


def process_of(config: Config) -> Process:
    assert config.process is not None
    return config.process


def test_every_part_of_a_config_is_decoded() -> None:
    config = decoded(FULL)
    process = process_of(config)
    assert process.user is not None
    assert (process.user.uid, process.user.umask, process.user.additional_gids) == (
        1000,
        18,
        (5, 6),
    )
    assert process.args == ("sh", "-c", "true")
    assert config.annotations == FULL["annotations"]
    assert config.hooks is not None
    assert [len(getattr(config.hooks, f) or ()) for f in config.hooks.__struct_fields__] == [
        1,
        1,
        1,
        1,
        1,
        2,
    ]
    linux = config.linux
    assert linux is not None
    nothing = [f for f in linux.__struct_fields__ if getattr(linux, f) is None]
    assert nothing == ["net_devices", "memory_policy"]  # newer than 1.2
    assert [f for f in process.__struct_fields__ if getattr(process, f) is None] == []


def test_unknown_properties_are_ignored_everywhere() -> None:
    config = changed("process.futureThing", {"a": [1, None]})
    config["newSection"] = 3
    config["linux"]["resources"]["quantum"] = {}
    assert process_of(decoded(config)).cwd == "/"


def test_null_means_absent_for_what_is_optional() -> None:
    config = changed("process.env", None)
    config["mounts"] = config["linux"] = config["hooks"] = config["annotations"] = None
    assert decoded(config).mounts is None


def test_a_config_without_a_process_is_well_formed() -> None:
    assert decoded({"ociVersion": "1.0.2-dev"}).process is None


STRING, INTEGER, ARRAY, OBJECT = "a string", "an integer", "an array", "an object"


@pytest.mark.parametrize(
    ("path", "value", "wanted", "found"),
    [
        ("ociVersion", 1, STRING, INTEGER),
        ("process", [], OBJECT, ARRAY),
        ("process.args", "sleep 60", ARRAY, STRING),
        ("process.args[1]", 7, STRING, INTEGER),
        ("process.env[1]", {}, STRING, OBJECT),
        ("process.cwd", None, STRING, "null"),
        ("process.user", 0, OBJECT, INTEGER),
        ("process.user.uid", "0", INTEGER, STRING),
        ("process.user.uid", 0.5, INTEGER, "a number"),
        ("process.user.uid", True, INTEGER, "true or false"),
        ("process.user.additionalGids[1]", "6", INTEGER, STRING),
        ("process.terminal", "yes", "true or false", STRING),
        ("process.noNewPrivileges", 1, "true or false", INTEGER),
        ("process.rlimits[0].soft", "1", INTEGER, STRING),
        ("process.capabilities.ambient", "CAP_KILL", ARRAY, STRING),
        ("process.scheduler", "SCHED_IDLE", OBJECT, STRING),
        ("process.execCPUAffinity", "0", OBJECT, STRING),
        ("root", "rootfs", OBJECT, STRING),
        ("mounts[0].destination", 1, STRING, INTEGER),
        ("mounts[0].options", "ro", ARRAY, STRING),
        ("hooks.createRuntime[0].path", 1, STRING, INTEGER),
        ("hooks.poststop[1]", "/bin/g", OBJECT, STRING),
        ("hooks.prestart[0].timeout", 1.5, INTEGER, "a number"),
        ("annotations", [], OBJECT, ARRAY),
        ("linux.namespaces[1].type", None, STRING, "null"),
        ("linux.uidMappings[0].hostID", "1", INTEGER, STRING),
        ("linux.resources", [], OBJECT, ARRAY),
        ("linux.seccomp", "default", OBJECT, STRING),
        ("linux.maskedPaths", "/proc", ARRAY, STRING),
        ("linux.timeOffsets.monotonic.secs", "1", INTEGER, STRING),
        ("linux.intelRdt", 1, OBJECT, INTEGER),
        ("vm", "x", OBJECT, STRING),
    ],
)
def test_a_wrong_type_names_its_path_and_both_types(
    path: str, value: object, wanted: str, found: str
) -> None:
    assert refused(changed(path, value)) == (path, f"expected {wanted}, found {found}")


def test_a_wrong_value_in_a_map_names_its_key() -> None:
    config = changed("annotations", {"a": "b", "com.example/x": 1})
    assert refused(config) == (
        'annotations["com.example/x"]',
        "expected a string, found an integer",
    )
    config = changed("linux.sysctl", {"kernel.a": "1", "plain": ["2"]})
    assert refused(config)[0] == "linux.sysctl.plain"


@pytest.mark.parametrize("after", ["[" * 200_000 + "]" * 200_000, "1" * 5000])
def test_a_wrong_value_in_a_map_is_told_even_if_the_rest_cannot_be_read(after: str) -> None:
    text = f'{{"ociVersion": "1.2.0", "annotations": {{"a": 1}}, "unknown": {after}}}'
    with pytest.raises(SpecInvalid) as caught:
        decode_config(text.encode())
    assert caught.value.json_path == "annotations[...]"


@pytest.mark.parametrize(
    "path",
    [
        "ociVersion",
        "process.cwd",
        "process.user.uid",
        "process.user.gid",
        "process.rlimits[0].hard",
        "root.path",
        "mounts[0].destination",
        "hooks.prestart[0].path",
        "linux.namespaces[0].type",
        "linux.uidMappings[0].containerID",
    ],
)
def test_a_missing_required_property_is_named(path: str) -> None:
    config = changed(path, None)
    at: Any = config
    *parents, last = path.replace("[", ".[").split(".")
    for part in parents:
        at = at[int(part[1:-1])] if part.startswith("[") else at[part]
    del at[last]
    assert refused(config) == (path, "is required and missing")


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("process.user.uid", -1, "expected an integer of at least 0"),
        ("process.user.gid", 2**32 - 1, "expected an integer of at most 4294967294"),
        ("process.user.additionalGids[0]", 2**32, "expected an integer of at most 4294967294"),
        ("process.user.umask", 0o1000, "expected an integer of at most 511"),
        ("process.oomScoreAdj", 1001, "expected an integer of at most 1000"),
        ("process.oomScoreAdj", -1001, "expected an integer of at least -1000"),
        ("process.rlimits[0].soft", -1, "expected an integer of at least 0"),
        ("process.rlimits[0].hard", 2**64, f"expected an integer of at most {2**64 - 1}"),
        ("hooks.prestart[0].timeout", 0, "expected an integer of at least 1"),
        ("hooks.prestart[0].timeout", -1, "expected an integer of at least 1"),
        ("process.args", [], "is empty; name a program to run"),
        ("process.args[0]", "", "is empty; name a program to run"),
        ("process.cwd", "tmp", "'tmp' isn't an absolute path"),
        ("process.cwd", "", "'' isn't an absolute path"),
        ("process.env[1]", "NOVALUE", "'NOVALUE' isn't NAME=value"),
        ("process.env[0]", "=x", "'=x' isn't NAME=value"),
        ("process.env[0]", "", "'' isn't NAME=value"),
        ("process.rlimits[0].type", "NOFILE", "unknown resource limit 'NOFILE'"),
        ("process.rlimits[0].soft", 2**64 - 1, None),
        ("hooks.poststop[1].path", "bin/g", "'bin/g' isn't an absolute path"),
        ("hooks.prestart[0].env[0]", "K", "'K' isn't NAME=value"),
        ("linux.namespaces[0].type", "PID", "unknown namespace 'PID'"),
        ("linux.namespaces[1].type", "pid", "pid is given twice"),
        ("linux.namespaces[1].path", "ns/net", "'ns/net' isn't an absolute path"),
    ],
)
def test_a_value_the_specification_forbids_is_refused_with_its_path(
    path: str, value: object, why: str | None
) -> None:
    if why is None:
        decoded(changed(path, value))
    else:
        assert refused(changed(path, value)) == (path, why)


def test_a_soft_limit_above_the_hard_one_and_a_repeated_limit_are_refused() -> None:
    limit = {"type": "RLIMIT_CORE", "soft": 5, "hard": 4}
    assert refused(changed("process.rlimits", [limit]))[0] == "process.rlimits[0].soft"
    limit["soft"] = 1
    config = changed("process.rlimits", [limit, limit])
    assert refused(config) == ("process.rlimits[1].type", "RLIMIT_CORE is given twice")


def test_an_empty_annotation_key_is_refused() -> None:
    assert refused(changed("annotations", {"": "x"})) == ("annotations", "has an empty key")


@pytest.mark.parametrize(
    "path",
    ["process.args[2]", "process.env[0]", "process.cwd", "hooks.prestart[0].args[1]", "hostname"],
)
def test_a_nul_in_a_string_is_refused_with_its_path(path: str) -> None:
    assert refused(changed(path, "/A=\0b")) == (path, "contains a NUL byte")


def test_a_nul_in_a_key_or_value_of_a_map_is_refused_but_not_in_an_unknown_property() -> None:
    assert refused(changed("annotations", {"a": "\0"}))[0] == "annotations.a"
    assert refused(changed("annotations", {"a\0": ""}))[0] == 'annotations["a\\u0000"]'
    decoded(changed("unknown", "\0"))


@pytest.mark.parametrize("version", ["1.0.0", "1.2.1", "1.0.2-dev", "1.3.0-rc.1+build", "1.99.0"])
def test_every_version_1_of_the_specification_is_accepted(version: str) -> None:
    assert decoded({"ociVersion": version}).oci_version == version


@pytest.mark.parametrize("version", ["0.5.0-dev", "2.0.0", "11.0.0"])
def test_another_major_version_is_refused(version: str) -> None:
    path, why = refused({"ociVersion": version})
    assert path == "ociVersion"
    assert why == f"version {version} of the specification isn't supported; supported are 1.x"


@pytest.mark.parametrize("version", ["", "1", "1.2", "1.2.0\n", "1.2.٣", "v1.2.0", " 1.2.0"])
def test_what_is_no_semantic_version_is_refused(version: str) -> None:
    path, why = refused({"ociVersion": version})
    assert (path, why) == ("ociVersion", f"{version!r} is no version like 1.2.0")


@pytest.mark.parametrize("top", ["[]", "1", '"text"', "null", "true"])
def test_json_that_is_no_object_is_refused(top: str) -> None:
    with pytest.raises(SpecInvalid, match="expected an object, found "):
        decode_config(top.encode())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{\n "ociVersion":}', "line 2, column 15"),
        ('{"ociVersion": "1.2.0"} x', "line 1, column 25"),
        ('{"ociVersion": "1.2.0",\n\n  process: {}}', "line 3, column 3"),
        ('{"ociVersion": "1.2.0", "x":\n NaN}', "line 2, column 2"),
        ('\ufeff{"ociVersion": "1.2.0"}', "line 1, column 1"),
        ('{"ociVersion": "1.2.0"', "line 1, column 23"),
    ],
)
def test_malformed_json_is_refused_with_line_and_column(text: str, where: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        decode_config(text.encode())
    assert caught.value.why.startswith("malformed JSON: ")
    assert where in caught.value.why
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_refused_wherever_they_are() -> None:
    with pytest.raises(SpecInvalid, match="not UTF-8: byte 0xff at line 2, column 5"):
        decode_config(b'{"ociVersion": "1.2.0",\n"x":\xff}')
    with pytest.raises(SpecInvalid, match="not UTF-8"):
        decode_config(b'{"ociVersion": "1.2.0", "unknown": "\xc3("}')


@pytest.mark.parametrize("data", [b"", b"  \n\t"])
def test_nothing_at_all_is_called_empty(data: bytes) -> None:
    with pytest.raises(SpecInvalid, match="is empty"):
        decode_config(data)


@pytest.mark.parametrize("place", ["process", "unknown"])
def test_absurd_nesting_is_refused_instead_of_overflowing_the_stack(place: str) -> None:
    text = f'{{"ociVersion": "1.2.0", "{place}": {"[" * 200_000}{"]" * 200_000}}}'
    with pytest.raises(SpecInvalid):
        decode_config(text.encode())


def test_a_decoded_config_cannot_be_changed() -> None:
    config = decoded(FULL)
    with pytest.raises(AttributeError):
        config.hostname = "other"  # type: ignore[misc]  # wrong on purpose
    with pytest.raises(TypeError):
        config.annotations["a"] = "b"  # type: ignore[index]  # wrong on purpose
    assert config.linux is not None
    with pytest.raises(TypeError):
        config.linux.sysctl["a"] = "b"  # type: ignore[index]  # wrong on purpose
