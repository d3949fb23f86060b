"""The threads that files are read and written in: aiofiles' executor, with daemons for workers.

So a disk that hangs keeps no interpreter from ending.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from asyncrt import _threads

if TYPE_CHECKING:
    from collections.abc import Callable


class Executor(concurrent.futures.Executor):
    """Runs each call in a daemon thread; its users bound how many at once."""

    def submit(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> concurrent.futures.Future[Any]:
        """Run it in a thread of its own, or in an idle one."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        _threads.submit(lambda: fn(*args, **kwargs), done)
        return future


executor = Executor()
