"""Connecting to a UNIX socket."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from asyncrt.container import terminal
from asyncrt.errors import StartFailed
from asyncrt.sandbox import unix


class _Interrupted(socket.socket):
    """One whose first connect is interrupted by a signal."""

    interrupted = False

    def connect(self, address: object) -> None:
        if not self.interrupted:
            self.interrupted = True
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        super().connect(address)  # type: ignore[arg-type]  # as it was given


def test_an_interrupted_connect_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python retries what a signal interrupts (PEP 475), but not this of a non-blocking socket."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        monkeypatch.setattr(socket, "socket", _Interrupted)
        both = [unix.connect(str(tmp_path), "socket"), terminal.connect_console("web", path)]
        for sock in both:
            with sock:
                assert isinstance(sock, _Interrupted)
                assert sock.interrupted
                assert sock.getpeername() == path


def test_a_console_socket_without_a_descriptor_left_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(StartFailed) as caught:
        terminal.connect_console("web", "/run/console")
    assert (caught.value.path, caught.value.errno) == ("/run/console", errno.EMFILE)
