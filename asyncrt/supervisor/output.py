"""What a supervisor does for its workload's output: a terminal to attach to, or logs, or both."""

from __future__ import annotations

import os

from asyncrt import _paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asyncrt.supervisor.log_files import LogWriter
    from asyncrt.supervisor.loop import Loop
    from asyncrt.supervisor.pump import Pump
    from asyncrt.supervisor.terminal import Terminal


class Output:
    """Part of the supervisor's loop; made only for a workload whose streams lead to us.

    Only what is used of it is imported: a supervisor's memory is paid for once per container.
    """

    def __init__(self, loop: Loop, dir_fd: int, held: list[int]) -> None:
        """Take over `held`: both ends of a terminal, or what kept the FIFOs open until here."""
        self._pump: Pump | None = None
        self._terminal: Terminal | None = None
        if os.isatty(held[0]):
            from asyncrt.supervisor.terminal import Terminal

            self._terminal = Terminal(loop, held[0], held[1], _log_of_terminal(dir_fd))
            return
        from asyncrt.supervisor.pump import Pump

        self._pump = Pump(loop, dir_fd)
        for fd in held:
            os.close(fd)

    def serve(self, message: dict[str, Any], fds: list[int]) -> bool:
        """Attach a client or change the terminal's size; False without one."""
        terminal = self._terminal
        if terminal is None:
            return False
        if message["op"] == "resize":
            terminal.resize(int(message["rows"]), int(message["columns"]))
        else:
            (stream,) = fds
            terminal.attach(stream)
        return True

    @property
    def flushed(self) -> bool:
        """Whether everybody attached has been sent everything."""
        return self._terminal is None or self._terminal.flushed

    def close(self) -> None:
        """Let go of it."""
        for each in (self._pump, self._terminal):
            if each is not None:
                each.close()

    def finish(self) -> None:
        """Nobody is left who would write: have all of it on disk, and on its way."""
        for each in (self._pump, self._terminal):
            if each is not None:
                each.finish()


def _log_of_terminal(dir_fd: int) -> LogWriter | None:
    try:
        logs = os.open(_paths.LOGS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    from asyncrt.supervisor.log_files import LogWriter, read_options

    return LogWriter(logs, "stdout", read_options(logs)["stdout"])
