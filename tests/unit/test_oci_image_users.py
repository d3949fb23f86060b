"""The users of a root file system: read from its own files, which are nobody's to trust."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec
from asyncrt.oci.users import resolve_user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
app:x:0:0::/root:/bin/sh
twin:x:1000:7::/:
short:x:5:5
sign:x:+0:0::/:
space:x: 0:0::/:
zero:x:00:0::/:
huge:x:4294967295:0::/:
digits:x:\u0663:0::/:
+::::::
"""
GROUP = """\
root:x:0:
app:x:1001:app
tty:x:5:root,app
audio:x:29:app,root,
app2:x:30:app2
broken:x:31
bad:x:-1:
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD, encoding="utf-8")
    (tmp_path / "etc/group").write_text(GROUP, encoding="utf-8")
    return tmp_path


def who(user: int | str, image: Path | str) -> tuple[int, int, tuple[int, ...] | None]:
    found = resolve_user(user, json_path="process.user", rootfs=str(image))
    return found.uid, found.gid, found.additional_gids


def why(user: int | str, image: Path | str) -> str:
    with pytest.raises(SpecInvalid) as caught:
        who(user, image)
    assert caught.value.json_path == "process.user"
    assert "\n" not in str(caught.value)
    return caught.value.why


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", (1000, 1001, (5, 29))),
        ("root", (0, 0, (5, 29))),
        ("1000", (1000, 1001, ())),
        (1000, (1000, 1001, ())),
        ("app:tty", (1000, 5, ())),
        ("app:77", (1000, 77, ())),
        ("4000:app", (4000, 1001, ())),
        ("0", (0, 0, ())),
    ],
)
def test_names_and_numbers_are_the_images_own(
    image: Path, user: int | str, ids: tuple[int, int, tuple[int, ...]]
) -> None:
    assert who(user, image) == ids


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("nobody", "no such user"),  # of the host's
        ("4000", "write 4000:GID"),
        ("app:nogroup", "no group"),
        ("app:broken", "malformed"),
        ("app:bad", "malformed"),
        ("short", "malformed"),
        ("sign", "malformed"),
        ("space", "malformed"),
        ("zero", "malformed"),
        ("huge", "malformed"),
        ("digits", "malformed"),
        ("app:app:app", "no group"),
        ("", "can't be a name"),
        ("app:", "can't be a name"),
        ("app\n", "can't be a name"),
        ("app\0", "can't be a name"),
        ("\ud800", "can't be a name"),
        (-1, "negative"),
        ("-1", "no such user"),
        ("4294967295", "a number from 0"),
        ("01000", "a number from 0"),
    ],
)
def test_hazard_43_what_is_no_entry_is_refused_and_nobody_becomes_root(
    image: Path, user: int | str, reason: str
) -> None:
    assert reason in why(user, image)


def test_hazard_38_a_link_in_the_image_stays_in_it(image: Path) -> None:
    os.rename(image / "etc/passwd", image / "users")
    (image / "etc/passwd").symlink_to("/users")
    assert who("app", image)[0] == 1000
    for target in ("/etc/passwd", "../../../../../../etc/passwd", "/proc/self/root/etc/passwd"):
        (image / "etc/passwd").unlink()
        (image / "etc/passwd").symlink_to(target)
        assert "/etc/passwd of the root file system" in why("root", image)


@pytest.mark.needs_root
def test_a_device_that_is_planted_is_never_opened(image: Path) -> None:
    """To open one of the host's can be enough: a watchdog's, a tape's."""
    (image / "etc/passwd").unlink()
    os.mknod(image / "etc/passwd", 0o20666, os.makedev(240, 4095))  # nobody's: an open would fail
    assert "is no file of" in why("app", image)


@pytest.mark.parametrize("case", ["fifo", "directory", "huge", "missing", "none", "file"])
def test_what_is_no_file_of_users_hangs_nobody_and_is_told(image: Path, case: str) -> None:
    path = image / "etc/passwd"
    path.unlink()
    if case == "fifo":
        os.mkfifo(path)
    elif case == "directory":
        path.mkdir()
    elif case == "huge":
        with path.open("wb") as file:
            file.truncate((1 << 20) + 1)
    place = {"none": image / "nowhere", "file": image / "etc/group"}.get(case, image)
    assert ("is no file of" in why("app", place)) is (case in {"fifo", "directory", "huge"})
    if case == "missing":
        assert who("0", image) == who("0:0", image) == (0, 0, ())
        assert who("5:6", image) == (5, 6, ())


def test_a_sandbox_takes_the_names_of_its_root_file_system(image: Path) -> None:
    process = Spec.sandbox(["id"], rootfs=image, user="app").config.process
    assert process is not None
    assert process.user is not None
    assert (process.user.uid, process.user.gid, process.user.additional_gids) == (
        1000,
        1001,
        (5, 29),
    )
    with pytest.raises(SpecInvalid):
        Spec.sandbox(["id"], rootfs=image, user="nobody")


_TEXTS = st.text(alphabet="ab:0123456789,\n -+x", max_size=30)


@settings(max_examples=200)
@given(passwd=_TEXTS, group=_TEXTS, user=st.text(alphabet="ab:01,\n -+", max_size=8))
def test_hazard_43_whatever_the_files_say_root_is_who_they_call_so(
    tmp_path_factory: pytest.TempPathFactory, passwd: str, group: str, user: str
) -> None:
    image = tmp_path_factory.mktemp("image")
    (image / "etc").mkdir()
    (image / "etc/passwd").write_text(passwd, encoding="utf-8")
    (image / "etc/group").write_text(group, encoding="utf-8")
    try:
        uid, gid, groups = who(user, image)
    except SpecInvalid:
        return
    name = user.partition(":")[0]
    lines = [line.split(":") for line in passwd.split("\n")]
    assert 0 <= uid < 2**32 - 1
    assert 0 <= gid < 2**32 - 1
    assert name == str(uid) or next(each[2] for each in lines if each[0] == name) == str(uid)
    assert not groups or user == name != str(uid)
