"""Programs to run that do nothing: static, so that starting one is an exec and little else."""

from __future__ import annotations

import os
import shutil
import subprocess

_TRUE = "int main(void) { return 0; }"
_SLEEPER = "#include <unistd.h>\nint main(void) { for (;;) pause(); }"


def true(directory: str) -> str:
    """The path of a program that ends at once: compiled, else busybox's, else the system's."""
    return _compiled(directory, "true", _TRUE) or _linked(directory, "true")


def sleeper(directory: str) -> list[str]:
    """A command that sleeps until it is killed."""
    path = _compiled(directory, "sleeper", _SLEEPER)
    return [path] if path else [_linked(directory, "sleep"), "86400"]


def _compiled(directory: str, name: str, source: str) -> str | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    path = os.path.join(directory, name)
    command = [compiler, "-static", "-Os", "-x", "c", "-", "-o", path]
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
    return path if done.returncode == 0 else None


def _linked(directory: str, name: str) -> str:
    busybox = shutil.which("busybox")
    if busybox is not None:
        path = os.path.join(directory, name)
        os.symlink(busybox, path)
        return path
    system = shutil.which(name)
    if system is None:
        raise FileNotFoundError(f"no C compiler, no busybox and no {name} on this machine")
    return system
