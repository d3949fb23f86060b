"""Reading a bundle's config.json: each way it can be unusable is one clear error."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec, load_bundle
from asyncrt.oci.bundle import MAX_BYTES
from tests.helpers.capabilities import User
from tests.helpers.processes import REPOSITORY

MINIMAL = b'{"ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["true"]}, "x": [1e2]}\n'


def bundle(directory: Path, data: bytes) -> Path:
    (directory / "config.json").write_bytes(data)
    return directory


def refused(path: str | os.PathLike[str]) -> SpecInvalid:
    with pytest.raises(SpecInvalid) as caught:
        Spec.from_bundle(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_bundle_keeps_its_config_byte_for_byte(tmp_path: Path) -> None:
    spec = load_bundle(bundle(tmp_path, MINIMAL))
    assert spec.encoded() == MINIMAL
    assert spec.bundle == str(tmp_path)
    assert spec.config.process is not None
    assert spec.config.process.args == ("true",)


def test_a_relative_bundle_is_remembered_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle(tmp_path, MINIMAL))
    assert Spec.from_bundle(".").bundle == str(tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"[]", "expected an object, found an array"),
        (b'{"a"', "malformed JSON: "),
        (b"\xff\xfe{", "not UTF-8: byte 0xff at line 1, column 1"),
        (b'{"ociVersion": "1.2.0", "root": {"path": 3}}', "root.path: expected a string"),
        (b'{"ociVersion": "1.2.0", "process": {"cwd": "a"}}', "process.cwd: 'a' isn't an absolute"),
    ],
)
def test_a_bad_config_is_one_line_with_the_path_of_the_file(
    tmp_path: Path, data: bytes, why: str
) -> None:
    error = refused(bundle(tmp_path, data))
    assert error.path == str(tmp_path / "config.json")
    assert str(error).startswith(f"{tmp_path}/config.json: {why}")


def test_a_missing_bundle_or_config_names_the_file_looked_for(tmp_path: Path) -> None:
    assert str(refused(tmp_path)) == (
        f"{tmp_path}/config.json: No such file or directory; a bundle is a directory with a "
        "config.json, which 'asyncrt spec' writes"
    )
    assert "No such file" in str(refused(tmp_path / "absent"))
    (tmp_path / "file").touch()
    assert str(refused(tmp_path / "file")) == (
        f"{tmp_path}/file/config.json: Not a directory; "
        "a bundle is the directory that has the config.json: give that"
    )


def test_a_config_that_is_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    script = f"from asyncrt.oci import Spec; Spec.from_bundle({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=20,
        check=False,
        text=True,
    )
    assert done.stderr.rstrip().endswith("config.json: isn't a regular file")


def test_a_config_that_is_a_directory_or_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert refused(tmp_path).why == "isn't a regular file"
    (tmp_path / "config.json").rmdir()
    (tmp_path / "config.json").symlink_to("/dev/zero")
    assert refused(tmp_path).why == "isn't a regular file"


def test_a_config_may_be_a_link_but_not_a_loop(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(MINIMAL)
    (tmp_path / "config.json").symlink_to("real.json")
    assert Spec.from_bundle(tmp_path).encoded() == MINIMAL
    (tmp_path / "real.json").unlink()
    (tmp_path / "real.json").symlink_to("config.json")
    assert "symbolic links" in refused(tmp_path).why


def test_a_huge_config_is_refused_without_being_decoded(tmp_path: Path) -> None:
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse, and NULs would be malformed
    assert refused(tmp_path).why == "is over 16 MiB"


def test_a_config_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    data = MINIMAL + b" " * (MAX_BYTES - len(MINIMAL))
    assert len(Spec.from_bundle(bundle(tmp_path, data)).encoded()) == MAX_BYTES


@pytest.mark.needs_root
def test_an_unreadable_config_says_so(
    tmp_path: Path, ordinary_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(tmp_path, MINIMAL)
    os.chmod(tmp_path / "config.json", 0)
    os.chmod(tmp_path, 0o755)
    fd = os.open(tmp_path, os.O_RDONLY)  # the directories above it are root's alone
    try:
        os.seteuid(ordinary_user.uid)
        try:
            error = refused(f"/proc/self/fd/{fd}")
        finally:
            os.seteuid(0)
    finally:
        os.close(fd)
    assert error.why == "Permission denied"


def test_paths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert "null" in refused("a\0b").why
    assert "isn't UTF-8" in refused(os.fsdecode(b"/tmp/\xff")).why
    str(refused(os.fsdecode(b"/tmp/\xff"))).encode()  # can be printed


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    os.mkfifo(tmp_path / "config.json")
    refused(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_spec_pickles_compares_and_hashes(tmp_path: Path) -> None:
    data = json.dumps(
        {"ociVersion": "1.2.0", "annotations": {"a": "b"}, "linux": {"resources": {"a": {}}}}
    )
    spec = Spec.from_bundle(bundle(tmp_path, data.encode()))
    again = pickle.loads(pickle.dumps(spec))
    assert (again, hash(again), again.bundle) == (spec, hash(spec), spec.bundle)
    assert again.config.annotations == {"a": "b"}
    assert spec != Spec.decode(spec.encoded())


def test_the_bundle_of_a_spec_cannot_be_changed(tmp_path: Path) -> None:
    spec = Spec.from_bundle(bundle(tmp_path, MINIMAL))
    with pytest.raises(AttributeError):
        spec.bundle = "/other"  # type: ignore[misc]  # wrong on purpose


def test_a_spec_from_a_mutable_buffer_keeps_its_own_bytes() -> None:
    data = bytearray(MINIMAL)
    spec = Spec.decode(data)
    data[:] = b"x" * len(data)
    assert spec.encoded() == MINIMAL
