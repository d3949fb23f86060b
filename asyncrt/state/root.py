"""The root directory: where it is by default, and that it can be trusted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncrt._paths import default_root
from asyncrt.errors import RootUnusable


def open_root(path: str | os.PathLike[str] | None = None) -> str:
    """The absolute path of a root directory that is there and can be trusted; made if missing.

    It is made with mode 0700. Of a root that was asked for (here or by $ASYNCRT_ROOT) the parents
    are made too. Raises RootUnusable when it is a link, no directory, somebody else's, writable by
    others, or can't be made.
    """
    explicit = path is not None or bool(os.environ.get("ASYNCRT_ROOT"))
    text = default_root() if path is None else os.fspath(path)
    if not text or "\0" in text:
        raise RootUnusable(path=repr(text), why="it is no path")
    # abspath also takes away a trailing slash, with which a link would be followed.
    root = os.path.abspath(text)
    try:
        _make(root, parents=explicit)
        why = _distrust(os.lstat(root))
        if not why and not os.access(root, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            why = "this user may not write in it"
    except OSError as error:
        why = error.strerror or str(error)
        if error.filename not in {None, root}:
            why = f"{error.filename}: {why}"
        raise RootUnusable(path=root, why=why) from error
    if why:
        raise RootUnusable(path=root, why=why)
    return root


def _make(root: str, *, parents: bool) -> None:
    if os.path.lexists(root):
        return
    if parents:
        try:
            os.makedirs(os.path.dirname(root), exist_ok=True)
        except FileExistsError as error:  # a parent is there, but as a file
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename
            ) from error
    with contextlib.suppress(FileExistsError):  # somebody else made it just now
        os.mkdir(root, 0o700)


def _distrust(found: os.stat_result) -> str:
    """Why the directory can't be trusted, or an empty text."""
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if found.st_uid != os.geteuid():
        return f"it belongs to uid {found.st_uid}"
    if found.st_mode & 0o022:
        return f"others may write in it (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
