"""OCI runtimes as peers: how each is called on this machine, and whether it can run a bundle here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from benchmarks.contenders import fresh_id
from benchmarks.question import Bench, Skipped

# crun 1.8 refuses a machine that has cgroups of both versions: it gets a view without the second.
_WITHOUT = 'for each in $1; do umount "$each" || exit; done; shift; exec "$@"'


class Runtime:
    """One of them. `where` is a command line to put before another, for it to be run where this runs."""

    def __init__(
        self, bench: Bench, name: str, *options: str, package: str, where: Sequence[str] = ()
    ) -> None:
        """Raises Skipped where it isn't installed."""
        path = shutil.which(name)
        if path is None:
            raise Skipped(f"{name} isn't installed: apt-get install {package}")
        self.path = path
        self._directory = bench.directory
        self.root = os.path.join(bench.directory, name)
        self.options = ("--root", self.root, *options)
        self.where = where

    def command(self, *words: str) -> list[str]:
        """A command line of its own."""
        return [self.path, *self.options, *words]

    def run(self, bundle: str) -> list[str]:
        """The command line of a container's whole life, but for its last word, a fresh id."""
        return self.command("run", "--bundle", bundle)

    def null(self) -> IO[bytes]:
        """An empty file, for who takes its streams over: runsc gives them to another user.

        As root it would do so with the machine's own /dev/null.
        """
        return tempfile.TemporaryFile(dir=self._directory)

    def try_out(self, bundle: str) -> None:
        """Raise Skipped if it can't run that here."""
        with self.null() as null:
            done = subprocess.run(
                [*self.where, *self.run(bundle), fresh_id()],
                stdin=null,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            name = os.path.basename(self.path)
            raise Skipped(f"{name} can't run a container here: {said}")


def runc(bench: Bench) -> Runtime:
    return Runtime(bench, "runc", package="runc")


def crun(bench: Bench) -> Runtime:
    """In a mount namespace of its own where it needs that."""
    hidden = _second_version()
    where = ("unshare", "--mount", "sh", "-c", _WITHOUT, "sh", " ".join(hidden)) if hidden else ()
    return Runtime(bench, "crun", package="crun", where=where)


def runsc(bench: Bench) -> Runtime:
    """With what a virtual machine without nested paging can do, and no network, as the others."""
    options = ("--platform=ptrace", "--ignore-cgroups", "--network=none")
    return Runtime(bench, "runsc", *options, package="runsc")


def _second_version() -> list[str]:
    """Where cgroups of version 2 are mounted, if those of version 1 are as well."""
    places: dict[str, list[str]] = {"cgroup": [], "cgroup2": []}
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            mounted, _, rest = line.partition(" - ")
            kind = rest.split(" ", 1)[0]
            if kind in places:
                places[kind].append(mounted.split(" ")[4])
    return places["cgroup2"] if places["cgroup"] else []
