"""The C half of the signal module, for processes that were just forked.

What `signal` puts around it makes enumerations of every number: a hundred pages that each fresh
child would touch first, and so pay for (a copy-on-write fault costs a microsecond or two), and
memory that each supervisor would keep. The numbers here are plain.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGSTOP,
        SIGXFSZ,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
    )
else:
    from _signal import (
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGSTOP,
        SIGXFSZ,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
    )

__all__ = [
    "SIGCHLD",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGSTOP",
    "SIGXFSZ",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "pidfd_send_signal",
    "pthread_sigmask",
    "set_wakeup_fd",
    "signal",
]
