from __future__ import annotations

import os
import stat
import tempfile

import pytest

from asyncrt.errors import RootUnusable
from asyncrt.state import default_root, open_root
from tests.helpers.capabilities import User
from tests.helpers.processes import Interpreter

pytestmark = pytest.mark.leaves()

OPEN_AS_OTHER = """
import sys
from asyncrt.errors import RootUnusable
from asyncrt.state import open_root
try:
    print(open_root(sys.argv[1]))
except RootUnusable as error:
    print(error)
"""


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def refusal(path: str) -> str:
    with pytest.raises(RootUnusable) as caught:
        open_root(path)
    assert isinstance(caught.value, PermissionError)
    assert caught.value.path == os.path.abspath(path)
    assert "\n" not in str(caught.value)
    return caught.value.why


def test_asyncrt_root_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCRT_ROOT", "some/where")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    assert default_root() == os.path.abspath("some/where")


def test_uid_0_has_its_root_in_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCRT_ROOT", "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == "/run/asyncrt"


def test_others_have_it_in_their_runtime_directory_else_in_the_temporary_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ASYNCRT_ROOT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1234")
    assert default_root() == "/run/user/1234/asyncrt"
    for invalid in ("", "relative"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", invalid)
        assert default_root() == f"{tempfile.gettempdir()}/asyncrt-1234"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_root() == f"{tempfile.gettempdir()}/asyncrt-1234"


def test_a_missing_root_is_made_for_its_owner_only(root: str) -> None:
    path = f"{root}/deep/er"
    before = os.umask(0)
    try:
        assert open_root(path) == path
    finally:
        os.umask(before)
    assert mode(path) == 0o700
    assert open_root(path) == path


def test_a_default_root_is_made_but_not_its_parents(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASYNCRT_ROOT", raising=False)
    monkeypatch.setattr("asyncrt.state.root.default_root", lambda: f"{root}/default")
    assert open_root() == f"{root}/default"
    monkeypatch.setattr("asyncrt.state.root.default_root", lambda: f"{root}/no/parent")
    with pytest.raises(RootUnusable, match="No such file"):
        open_root()
    assert not os.path.exists(f"{root}/no")


def test_the_root_of_the_environment_is_made_with_its_parents(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCRT_ROOT", f"{root}/deep/er")
    assert open_root() == f"{root}/deep/er"


def test_a_relative_root_is_made_absolute_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert open_root("below/../here/") == f"{root}/here"


def test_one_made_at_the_same_time_by_another_is_used(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    assert open_root(root) == root


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_link_is_refused_wherever_it_leads(root: str, slash: str) -> None:
    os.mkdir(f"{root}/real", 0o700)
    os.symlink("real", f"{root}/link")
    assert refusal(f"{root}/link{slash}") == "it is a symbolic link"
    os.symlink("nowhere", f"{root}/dangling")
    assert refusal(f"{root}/dangling{slash}") == "it is a symbolic link"


def test_a_file_is_refused(root: str) -> None:
    with open(f"{root}/file", "w"):
        pass
    assert refusal(f"{root}/file") == "it is not a directory"
    assert refusal(f"{root}/file/below") == f"{root}/file: Not a directory"


@pytest.mark.parametrize("bad", [0o770, 0o702, 0o1777])
def test_one_that_others_may_write_in_is_refused(root: str, bad: int) -> None:
    os.mkdir(f"{root}/open")
    os.chmod(f"{root}/open", bad)
    assert "others may write" in refusal(f"{root}/open")


def test_one_that_others_may_only_read_is_fine(root: str) -> None:
    os.mkdir(f"{root}/readable")
    os.chmod(f"{root}/readable", 0o755)
    assert open_root(f"{root}/readable")


@pytest.mark.needs_root
def test_somebody_elses_is_refused_also_to_uid_0(root: str, ordinary_user: User) -> None:
    os.mkdir(f"{root}/theirs", 0o700)
    os.chown(f"{root}/theirs", ordinary_user.uid, ordinary_user.gid)
    assert refusal(f"{root}/theirs") == f"it belongs to uid {ordinary_user.uid}"


def test_an_ordinary_user_is_told_in_one_line(root: str, ordinary_user: User) -> None:
    os.mkdir(f"{root}/ours", 0o755)
    os.chmod(root, 0o755)
    for path in (f"{root}/ours", f"{root}/new"):
        with Interpreter(
            OPEN_AS_OTHER, path, user=ordinary_user.uid, group=ordinary_user.gid
        ) as child:
            assert child.line().startswith(f"can't use root directory {path}: ")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(RootUnusable, match="no path"):
        open_root(path)
