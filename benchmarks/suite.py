"""All questions there are, and how one of them is asked."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from asyncrt import _fskind
from benchmarks import (
    burst_heartbeat,
    event_latency,
    exec_beside_subprocess,
    gc_healthy,
    kill_all_forking,
    life_beside_runc,
    life_beside_subprocess,
    life_from_big_engine,
    list_live,
    list_stopped,
    lock_cancel_storm,
    lock_contention,
    lock_handoff,
    lock_readers_writer,
    lock_uncontended,
    lock_waiters_memory,
    log_throughput,
    oom_scores_scale,
    sandbox_create_beside,
    sandbox_destroy_thirty,
    sandbox_exec_beside_runc,
    sandbox_life_beside_bwrap,
    sandbox_life_beside_crun,
    sandbox_life_beside_runc,
    sandbox_life_beside_runsc,
    sandbox_life_of_users,
    sandbox_pause_beside_runc,
    sandbox_supervisor_memory,
    sandbox_system_memory,
    sandbox_throughput,
    start_pooled,
    state_cycle,
    state_save,
    state_scale,
    supervisor_memory,
    waiting_cpu,
)
from benchmarks.question import Answer, Bench, Question, Skipped
from benchmarks.report import Entry

QUESTIONS = {
    module.QUESTION.name: module.QUESTION
    for module in (
        lock_uncontended,
        lock_contention,
        lock_handoff,
        lock_readers_writer,
        lock_cancel_storm,
        lock_waiters_memory,
        state_save,
        state_cycle,
        state_scale,
        life_beside_subprocess,
        life_beside_runc,
        life_from_big_engine,
        start_pooled,
        exec_beside_subprocess,
        sandbox_life_beside_runc,
        sandbox_life_beside_bwrap,
        sandbox_life_beside_crun,
        sandbox_life_beside_runsc,
        sandbox_life_of_users,
        sandbox_exec_beside_runc,
        sandbox_pause_beside_runc,
        sandbox_create_beside,
        sandbox_destroy_thirty,
        oom_scores_scale,
        kill_all_forking,
        sandbox_throughput,
        burst_heartbeat,
        supervisor_memory,
        sandbox_supervisor_memory,
        sandbox_system_memory,
        list_stopped,
        list_live,
        gc_healthy,
        waiting_cpu,
        event_latency,
        log_throughput,
    )
}
_MEMORY = "/dev/shm"


def memory_base() -> str:
    """Where scratch directories go: a memory-backed file system where there is one."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir()


def disk_base() -> str | None:
    """Where those go that are to be on a disk; None when there is none to write to."""
    for path in (tempfile.gettempdir(), "/var/tmp", os.getcwd()):
        if os.access(path, os.W_OK) and _fskind.kind_of(path) == "disk":
            return path
    return None


def ask(question: Question, *, quick: bool, console: Console, smoke: bool = False) -> Entry:
    """One question's answer, measured in scratch directories."""
    # No thread of the bar's own may draw while something is measured.
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    )
    gc.collect()  # what the last question left
    prefix = "asyncrt-bench-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=memory_base()) as memory,
        tempfile.TemporaryDirectory(prefix=prefix, dir=disk_base()) as disk,
        progress,
    ):
        bar = progress.add_task(question.name)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, refresh=True)

        bench = Bench(
            memory,
            quick=quick,
            disk=disk if disk_base() is not None else None,
            smoke=smoke,
            on_progress=show,
        )
        began = time.perf_counter()
        try:
            answer = asyncio.run(_measured(question, bench))
        except Skipped as reason:
            return Entry.skipped(question, str(reason))
        return Entry.of(question, answer, time.perf_counter() - began)


async def _measured(question: Question, bench: Bench) -> Answer:
    return await question.measure(bench)
