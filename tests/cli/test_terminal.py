"""The command in a real terminal emulator: raw programs, jobs, sizes, detaching, and being killed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from asyncrt.cli import detach_keys
from tests.cli.command import Asyncrt, at_once
from tests.helpers.processes import REPOSITORY, wait_until

pytestmark = pytest.mark.needs_program("tmux")


class Tmux:
    """One window of a tmux server of its own, in which a shell runs."""

    def __init__(self, root: str) -> None:
        self._socket = f"{root}/tmux-{uuid.uuid4().hex}"
        self._clean = False
        shell = f"exec env PS1='outer> ' PYTHONPATH={REPOSITORY} ASYNCRT_ROOT={root} sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell)
        self.wait("outer>")

    def _tmux(self, *args: str) -> str:
        command = ["tmux", "-S", self._socket, *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def type(self, text: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", text)
        self.key("Enter")

    def key(self, *names: str) -> None:
        """Keys by name."""
        self._tmux("send-keys", *names)

    def asyncrt(self, *args: str) -> None:
        """Type the command."""
        self.type(shlex.join([sys.executable, "-m", "asyncrt", *args]))

    def resize(self, columns: int, rows: int) -> None:
        """The window's size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        """What is to be seen, long lines in one piece."""
        return self._tmux("capture-pane", "-p", "-J")

    def wait(self, text: str, *, times: int = 1) -> None:
        """Until the text is to be seen, so many times."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: self.screen().count(text) >= times, text)
            return
        raise AssertionError(f"no {text!r} in:\n{self.screen()}")

    def ask_size_until(self, wanted: str) -> None:
        """Ask the inner shell for its size, again if what was typed overtook the news of it.

        Rows and columns. The news comes another way.
        """
        told: list[str] = []
        while told[-1:] != [wanted]:
            before = len(self._sizes())
            self.type("stty size")
            wait_until(lambda: len(self._sizes()) > before, "it says its size")  # noqa: B023 - used at once
            told = self._sizes()

    def _sizes(self) -> list[str]:
        return re.findall(r"^\d+ \d+$", self.screen(), re.MULTILINE)

    def modes(self) -> str:
        """The modes of the outer shell's terminal, but for its size."""
        (tty,) = self._tmux("list-panes", "-F", "#{pane_tty}").split()
        done = subprocess.run(["stty", "-F", tty, "-a"], capture_output=True, text=True, check=True)
        return done.stdout.partition("line =")[2]

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
        wait_until(lambda: not os.path.exists(self._socket) or self._remove(), "it is gone")

    def _remove(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket)
        return True


@pytest.fixture
def tmux(asyncrt: Asyncrt) -> Iterator[Tmux]:
    made = Tmux(asyncrt.root)
    try:
        yield made
    finally:
        made.close()
        for id in asyncrt.views():
            asyncrt.do("delete", "--force", id)


def test_a_shell_with_jobs_interrupts_and_a_size_that_changes(tmux: Tmux) -> None:
    before = tmux.modes()
    tmux.asyncrt("run", "-t", "-e", "PS1=inner$ ", "web", "--", "sh", "-i")
    tmux.wait("inner$", times=2)  # once where it was typed
    tmux.type("stty size")
    tmux.wait("24 80")
    tmux.type("sh -c 'echo be-gun | tr -d -; exec sleep 1000'")
    tmux.wait("begun")
    tmux.key("C-c")
    tmux.type("echo st-atus $? | tr -d -")
    tmux.wait("status 130")
    tmux.type("sh -c 'echo ag-ain | tr -d -; read x; echo re-ad $x | tr -d -'")
    tmux.wait("again")
    tmux.key("C-z")
    tmux.wait("Stopped")
    tmux.resize(100, 30)

    tmux.ask_size_until("30 100")
    tmux.type("fg")
    tmux.type("word")
    tmux.wait("read word")
    tmux.type("exit 7")
    tmux.wait("outer>", times=2)
    tmux.type("echo st-atus $? | tr -d -")
    tmux.wait("status 7")
    assert tmux.modes() == before


def test_a_full_screen_program_of_raw_mode(tmux: Tmux) -> None:
    script = (
        "import os, tty; tty.setraw(0); os.write(1, b'\\x1b[?1049h\\x1b[2J\\x1b[5;10Hfull screen');"
        "key = os.read(0, 9); os.write(1, b'\\x1b[7;3Hkey %r' % key); os.read(0, 9);"
        "os.write(1, b'\\x1b[?1049l')"
    )
    tmux.asyncrt("run", "-t", "web", "--", sys.executable, "-c", script)
    tmux.wait("         full screen")
    tmux.key("Up")
    tmux.wait(r"  key b'\x1b[A'")
    assert "outer>" not in tmux.screen()
    tmux.key("C-c")
    tmux.wait("outer>", times=2)


def test_detached_by_keys_it_goes_on_and_can_be_attached_to_again(
    tmux: Tmux, asyncrt: Asyncrt
) -> None:
    before = tmux.modes()
    tmux.asyncrt("run", "-t", "-e", "PS1=inner$ ", "web", "--", "sh", "-i")
    tmux.wait("inner$", times=2)  # once where it was typed
    assert tmux.modes() != before
    tmux.key("C-p", "C-q")
    tmux.wait("detached")
    tmux.wait("outer>", times=2)
    assert tmux.modes() == before
    assert asyncrt.views()["web"]["status"] == "running"
    tmux.asyncrt("attach", "--detach-keys", "ctrl-x,d", "web")
    wait_until(lambda: tmux.modes() != before, "it is attached")
    tmux.type("echo ba-ck | tr -d -")
    tmux.wait("back")
    tmux.key("C-x", "d")
    tmux.wait("outer>", times=3)
    tmux.asyncrt("attach", "web")
    wait_until(lambda: tmux.modes() != before, "it is attached")
    tmux.type("exit 5")
    tmux.wait("outer>", times=4)
    tmux.type("echo st-atus $? | tr -d -")
    tmux.wait("status 5")
    assert tmux.modes() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_users_terminal_is_put_back_however_the_client_dies(
    tmux: Tmux, asyncrt: Asyncrt, number: signal.Signals
) -> None:
    before = tmux.modes()
    asyncrt.detached("web", "sh", "-i", options=("-t", "--no-log"))
    tmux.asyncrt("attach", "web")
    wait_until(lambda: tmux.modes() != before, "it is attached")
    # The guard is to be there: what kills both at once nobody survives.
    client = _client(asyncrt.root)
    wait_until(lambda: _has_guard(client), "its guard is there")
    os.kill(client, number)
    tmux.wait("outer>", times=2)
    wait_until(lambda: tmux.modes() == before, "the terminal is as it was")
    assert asyncrt.views()["web"]["status"] == "running"


def test_a_client_that_was_stopped_and_goes_on_has_its_raw_terminal_again(
    tmux: Tmux, asyncrt: Asyncrt
) -> None:
    """The shell's own line, or a shell that does so by itself, has put it back meanwhile."""
    before = tmux.modes()
    asyncrt.detached("web", "sh", "-i", options=("-t", "--no-log", "-e", "PS1=inner$ "))
    tmux.type("set -m")
    tmux.asyncrt("attach", "web")
    wait_until(lambda: tmux.modes() != before, "it is attached")
    raw = tmux.modes()
    client = _client(asyncrt.root)
    wait_until(lambda: _has_guard(client), "its guard is there")
    os.kill(client, signal.SIGSTOP)
    tmux.wait("Stopped")
    tmux.key(*"stty", "Space", *"sane", "C-j")  # in a raw terminal Enter is no end of a line
    wait_until(lambda: tmux.modes() != raw, "the terminal is the shell's")
    tmux.resize(90, 28)
    tmux.type("fg")
    wait_until(lambda: tmux.modes() == raw, "it is raw again")
    tmux.ask_size_until("28 90")
    # In the background it is the shell's, whatever continues the client.
    os.kill(client, signal.SIGSTOP)
    tmux.wait("Stopped", times=2)
    tmux.key(*"stty", "Space", *"sane", "C-j")
    wait_until(lambda: tmux.modes() != raw, "the terminal is the shell's")
    os.kill(client, signal.SIGCONT)
    tmux.type("echo st-ill | tr -d -")
    tmux.wait("still")
    assert tmux.modes() != raw
    tmux.type("fg")
    wait_until(lambda: tmux.modes() == raw, "it is raw again")
    tmux.key("C-p", "C-q")
    wait_until(lambda: tmux.modes() != raw, "it is put back")
    tmux.type("echo e-nd | tr -d -")
    tmux.wait("end")


def _client(root: str) -> int:
    """The one there is; what it is about to execute looks like itself for a moment."""
    wait_until(lambda: len(_clients(root)) == 1, "it is alone")
    return _clients(root)[0]


def _clients(root: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read().split(b"\0")
            if b"attach" in words and f"ASYNCRT_ROOT={root}".encode() in environ:
                found.append(int(pid))
    return found


def _has_guard(client: int) -> bool:
    with open(f"/proc/{client}/task/{client}/children") as file:
        children = file.read().split()
    for each in children:
        with open(f"/proc/{each}/cmdline", "rb") as file:
            if b"tty_guard" in file.read():
                # Past its start, in which the death of its parent would find it without the pipe.
                return True
    return False


def test_an_exec_on_a_terminal(tmux: Tmux, asyncrt: Asyncrt) -> None:
    before = tmux.modes()
    asyncrt.detached("web", "sleep", "1000")
    tmux.asyncrt("exec", "-t", "web", "--", "sh", "-c", "tty; stty size; read x; exit 9")
    tmux.wait("/dev/pts/")
    tmux.wait("24 80")
    tmux.key("Enter")
    tmux.wait("outer>", times=2)
    tmux.type("echo st-atus $? | tr -d -")
    tmux.wait("status 9")
    assert tmux.modes() == before


def test_attached_to_a_log_one_sees_what_comes_and_not_what_was(asyncrt: Asyncrt) -> None:
    script = "echo before; until [ -e $1 ]; do echo tick; sleep 0.05; done; echo after; exit 3"
    stop = f"{asyncrt.root}/stop"
    asyncrt.detached("web", "sh", "-c", script, "sh", stop)
    wait_until(lambda: asyncrt("logs", "web").startswith("before\n"), "it has begun")
    with asyncrt.start("attach", "web") as attached:
        assert attached.line() == "tick"
        with open(stop, "w"):
            pass
        status, out, err = attached.end()
        assert (status, out.splitlines()[-1], err) == (3, "after", "")
        assert "before" not in out
    os.unlink(stop)
    asyncrt.do("delete", "web")


def test_without_a_terminal_of_ours_it_works_in_pipes(asyncrt: Asyncrt) -> None:
    with asyncrt.start(
        "run", "-t", "web", "--", "sh", "-c", "read x; echo got $x; exit 4", stdin=subprocess.PIPE
    ) as running:
        assert running._popen.stdin is not None
        running._popen.stdin.write("this\n")
        running._popen.stdin.flush()
        assert running.end() == (4, "this\ngot this\n", "")
    assert asyncrt.left() == []


@pytest.mark.parametrize("typed", ["", "one\n", "one\ntwo"])
def test_the_end_of_our_input_is_the_end_of_the_programs(asyncrt: Asyncrt, typed: str) -> None:
    """As from cron, or a pipe, where nobody could type Ctrl-D; and of an exec."""
    asyncrt.detached("web", "sleep", "1000")
    for command in (("run", "-t", "box", "--"), ("exec", "-t", "web")):
        with asyncrt.start(*command, "sh", "-c", "wc -c; exit 4", stdin=subprocess.PIPE) as running:
            assert running._popen.stdin is not None
            running._popen.stdin.write(typed)
            running._popen.stdin.close()
            running._popen.stdin = None
            status, out, err = running.end()
        assert (status, out.removeprefix(typed).strip(), err) == (4, str(len(typed)), "")
    asyncrt.do("delete", "--force", "web")


def test_what_cannot_be_attached_to_is_one_line(asyncrt: Asyncrt) -> None:
    asyncrt.detached("web", "sleep", "1000", options=("--no-log",))
    lines = at_once(
        asyncrt,
        [
            (1, ("attach", "web")),
            (1, ("attach", "nobody")),
            (2, ("attach", "--detach-keys", "ctrl-", "web")),
            (2, ("exec", "-t", "-d", "web", "--", "true")),
            (1, ("run", "-t", "--console-socket", "/nowhere", "x", "--", "true")),
        ],
    )
    for line, words in zip(
        lines,
        ("no terminal", "no container", "is no key", "--console-socket", "console socket"),
        strict=True,
    ):
        assert words in line
    asyncrt.do("delete", "--force", "web")
    assert asyncrt.left() == []


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,b", b"ab"),
        ("", b""),
        ("ctrl-@", b"\0"),
        ("ctrl-]", b"\x1d"),
    ],
)
def test_keys_are_written_as_others_write_them(text: str, keys: bytes) -> None:
    assert detach_keys.parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ab", "a,,b", "é", "ctrl-1", ","])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no key|there is no"):
        detach_keys.parse(text)


def test_the_keys_are_found_however_they_come_and_all_else_is_passed_on() -> None:
    for cut in range(8):
        typed = b"ab\x10c\x10\x11de"
        keys = detach_keys.Keys(b"\x10\x11")
        passed, detached = keys.take(typed[:cut])
        if not detached:
            more, detached = keys.take(typed[cut:])
            passed += more
        assert (passed, detached) == (b"ab\x10c", True)
    keys = detach_keys.Keys(b"aab")
    assert keys.take(b"aa") == (b"", False)
    assert keys.take(b"a") == (b"a", False)  # might still be
    assert keys.take(b"c") == (b"aac", False)
    assert detach_keys.Keys(b"").take(b"\x10\x11") == (b"\x10\x11", False)
