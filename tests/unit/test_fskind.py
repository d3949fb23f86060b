from __future__ import annotations

import os

import pytest

from asyncrt import _fskind

LINE = "36 35 {device} /sub /mnt\\040x rw,noatime shared:2 master:1 - {fs_type} some-source rw\n"


def kind_given(monkeypatch: pytest.MonkeyPatch, mounts: str) -> str:
    monkeypatch.setattr(_fskind, "_mounts", mounts.encode)
    monkeypatch.setattr(_fskind, "_known", {})
    return _fskind.kind_of("/")


def line(fs_type: str) -> str:
    device = os.stat("/").st_dev
    return LINE.format(device=f"{os.major(device)}:{os.minor(device)}", fs_type=fs_type)


@pytest.mark.parametrize(
    ("fs_type", "kind"),
    [
        ("tmpfs", "memory"),
        ("ramfs", "memory"),
        ("ext4", "disk"),
        ("xfs", "disk"),
        ("overlay", "disk"),
        ("never-heard-of", "disk"),
        ("nfs4", "network"),
        ("cifs", "network"),
        ("9p", "network"),
        ("ceph", "network"),
        ("fuse", "network"),
        ("fuse.sshfs", "network"),
    ],
)
def test_a_file_system_is_classified_by_its_type(
    monkeypatch: pytest.MonkeyPatch, fs_type: str, kind: str
) -> None:
    other = LINE.format(device="999:999", fs_type="tmpfs")
    assert kind_given(monkeypatch, other + line(fs_type) + other) == kind


@pytest.mark.parametrize(
    ("fs_type", "made_up"),
    [("proc", "proc"), ("cgroup2", "cgroup2"), ("tmpfs", ""), ("ext4", ""), ("never-heard-of", "")],
)
def test_where_the_kernel_makes_up_the_files_is_known_by_the_nearest_directory_there(
    monkeypatch: pytest.MonkeyPatch, fs_type: str, made_up: str
) -> None:
    monkeypatch.setattr(_fskind, "_mounts", line(fs_type).encode)
    assert _fskind.made_up("/there/is/no such") == made_up
    assert _fskind.made_up("/") == made_up


@pytest.mark.parametrize("mounts", ["", "garbage\n\n1 2\n", "36 35 999:999 / / rw - tmpfs t rw\n"])
def test_what_is_not_found_counts_as_disk(monkeypatch: pytest.MonkeyPatch, mounts: str) -> None:
    assert kind_given(monkeypatch, mounts) == "disk"


def test_mountinfo_is_read_once_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_given(monkeypatch, line("tmpfs")) == "memory"
    monkeypatch.setattr(_fskind, "_mounts", lambda: line("nfs").encode())
    assert _fskind.kind_of("/") == "memory"


def test_a_path_and_an_open_descriptor_are_told_alike(root: str, disk_root: str) -> None:
    for path, kind in ((root, _fskind.kind_of(root)), (disk_root, "disk")):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert _fskind.kind_of(path) == _fskind.kind_of(fd) == kind
        finally:
            os.close(fd)


def test_a_real_tmpfs_is_memory() -> None:
    with open("/proc/self/mountinfo") as file:
        if not any(" /dev/shm " in each and " - tmpfs " in each for each in file):
            pytest.skip("lacks a tmpfs on /dev/shm")
    assert _fskind.kind_of("/dev/shm") == "memory"


def test_a_missing_path_is_an_error(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        _fskind.kind_of(f"{root}/missing")
