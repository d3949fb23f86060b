"""The machine that figures come from, in a few lines."""

from __future__ import annotations

import os
import platform
import subprocess

import msgspec
import psutil

import asyncrt
from asyncrt import clock


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever moves a figure and isn't the code."""

    at: str
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    asyncrt: str
    file_systems: dict[str, str]
    load: tuple[float, float, float]

    def lines(self) -> list[str]:
        """For people."""
        file_systems = ", ".join(f"{path} {kind}" for path, kind in self.file_systems.items())
        load = " ".join(f"{each:.2f}" for each in self.load)
        return [
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB; Linux {self.kernel}",
            f"{self.python}; asyncrt {self.asyncrt}; {file_systems}; load {load}",
        ]


def describe(*paths: str) -> Machine:
    """This machine, with the file systems that these directories are on."""
    return Machine(
        at=clock.stamp(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        asyncrt=_version(),
        file_systems={path: _kind(path) for path in paths},
        load=os.getloadavg(),
    )


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _version() -> str:
    """With the commit, where this is a checkout."""
    command = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return asyncrt.__version__
    return f"{asyncrt.__version__} ({done.stdout.strip()})"


def _kind(path: str) -> str:
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            if line.split(" ", 3)[2] == name:
                return line.split(" - ", 1)[1].split(" ", 1)[0]
    return "unknown"
