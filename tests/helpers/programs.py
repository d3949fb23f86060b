"""Tiny programs for tests to run: static, so that starting one costs an exec and little else."""

from __future__ import annotations

import os
import shutil
import subprocess

TRUE = "int main(void) { return 0; }"

# Ignores TERM; ends by KILL only. Writes one line once it ignores, so nobody signals too early.
STUBBORN = """
#include <signal.h>
#include <unistd.h>
int main(void) { signal(SIGTERM, SIG_IGN); write(1, "ready\\n", 6); for (;;) pause(); }
"""


def compile_static(source: str, path: str) -> bool:
    """Make a static program of C source at `path`; False where no compiler can."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return False
    done = subprocess.run(
        [compiler, "-static", "-Os", "-w", "-x", "c", "-", "-o", path],
        input=source.encode(),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def make_true(directory: str) -> str:
    """The path of the cheapest `true` there is: compiled, else busybox's, else the system's."""
    path = os.path.join(directory, "true")
    if compile_static(TRUE, path):
        return path
    busybox = shutil.which("busybox")
    if busybox is not None:
        os.symlink(busybox, path)
        return path
    system = shutil.which("true")
    if system is None:
        raise FileNotFoundError("no C compiler, no busybox and no true on this machine")
    return system
