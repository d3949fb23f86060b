"""What this machine's kernel has, asked: what is an answer, and what isn't."""

from __future__ import annotations

import errno
import os

import pytest

from asyncrt import _libc
from asyncrt.platforms.linux import machine


@pytest.mark.parametrize(
    ("number", "there"),
    [(errno.EFAULT, True), (errno.ENOMEM, True), (errno.EINVAL, False), (errno.EPERM, False)],
)
def test_want_of_memory_is_no_word_of_what_a_kernel_has(
    monkeypatch: pytest.MonkeyPatch, number: int, there: bool
) -> None:
    """It was remembered as one: no sandbox with a filter any more in that process."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_libc, "syscall", fail)
    assert machine.has_seccomp.__wrapped__() is there
    assert machine.has_seccomp_flag.__wrapped__(1) is there
    assert machine.has_seccomp_action.__wrapped__(0) is there
