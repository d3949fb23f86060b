"""A user's home directory as the passwd(5) of our root has it."""

from __future__ import annotations

import os
import stat

_FILE = "/etc/passwd"
_MOST = 1 << 20  # bytes: the file is somebody else's


def home_of(uid: int) -> str:
    """Of the first entry for the uid; "/" without one, as other runtimes have it."""
    try:
        if not stat.S_ISREG(os.stat(_FILE).st_mode):
            return "/"  # a device may do something when it is opened
        # Whatever is there, a FIFO nobody writes to or a terminal, isn't waited for or taken.
        fd = os.open(_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return "/"
    try:
        data = os.read(fd, _MOST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        data = b""
    finally:
        os.close(fd)
    for line in data.splitlines():
        fields = line.split(b":")
        if len(fields) == 7 and fields[2] == str(uid).encode() and fields[5].startswith(b"/"):
            return os.fsdecode(fields[5])
    return "/"
