"""What does a sandbox's whole life cost an ordinary user, beside root?

The same bundle but for its id map: an ordinary user's single id, what newuidmap and newgidmap write for
that user, and root's map of as many ids. Each has an engine in a process of its own. Root's sandbox is
in cgroups, the user's isn't: nobody has delegated any.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator

from benchmarks import turns
from benchmarks.bundles import WHOLE, Bundle, Map
from benchmarks.figures import Series, ratio
from benchmarks.question import Answer, Bench, Question, Skipped, at_most
from benchmarks.turns import Helper
from benchmarks.workers import CHECKOUT

_FILES = ("/etc/subuid", "/etc/subgid")
_GIVEN = (1, 100000, 65535)  # ids beside the user's own
# newuidmap reads what an administrator gave the user: here, for as long as it lasts and in a mount
# namespace of its own, by a file of ours.
_AS_USER = (
    'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && user=$2 group=$3 && shift 3 && '
    'exec setpriv --reuid "$user" --regid "$group" --clear-groups "$@"'
)


class _User:
    """Whom to become, with the ids that newuidmap lets them have."""

    def __init__(self, bench: Bench) -> None:
        """Raises Skipped where that can't be."""
        self.entry = _ordinary()
        ranges = os.path.join(bench.directory, "ranges")
        with open(ranges, "w", encoding="utf-8") as file:
            file.write(f"{self.entry.pw_name}:{_GIVEN[1]}:{_GIVEN[2]}\n")
        who = (str(self.entry.pw_uid), str(self.entry.pw_gid))
        self.where: tuple[str, ...] = (
            "unshare",
            "--mount",
            "sh",
            "-c",
            _AS_USER,
            "sh",
            ranges,
            *who,
        )
        if not all(map(os.path.exists, _FILES)):
            self.where = ("setpriv", "--reuid", who[0], "--regid", who[1], "--clear-groups")
        command = [*self.where, sys.executable, "-B", "-c", "import benchmarks.elsewhere"]
        tried = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            said = (tried.stderr.strip() or f"exit status {tried.returncode}").splitlines()[-1]
            raise Skipped(f"{self.entry.pw_name} can't run this: {said}")

    def lacks_maps(self) -> str:
        """Why there can be no map by newuidmap, "" where there can."""
        if shutil.which("newuidmap") is None:
            return "newuidmap isn't installed: apt-get install uidmap"
        missing = [each for each in _FILES if not os.path.exists(each)]
        return f"there is no {missing[0]}" if missing else ""


def _ordinary() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        raise Skipped("becoming an ordinary user, beside root, needs root")
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Skipped("there is neither a user nobody nor daemon")


async def measure(bench: Bench) -> Answer:
    user = _User(bench)
    uid, gid = user.entry.pw_uid, user.entry.pw_gid
    lacking = {"mapped": why} if (why := user.lacks_maps()) else {}
    async with contextlib.AsyncExitStack() as stack:

        async def ready(who: _User | None, uids: tuple[Map, ...], gids: tuple[Map, ...]) -> Helper:
            return await stack.enter_async_context(_engine(bench, who, uids, gids))

        helpers = {
            "an ordinary user, one id": await ready(user, ((0, uid, 1),), ((0, gid, 1),)),
            "root": await ready(None, WHOLE, WHOLE),
        }
        if not lacking:
            helpers["an ordinary user, by newuidmap"] = await ready(
                user, ((0, uid, 1), _GIVEN), ((0, gid, 1), _GIVEN)
            )
        found = await bench.interleave(
            {name: each.once for name, each in helpers.items()},
            bench.size(quick=50, full=300, smoke=1),
        )
    series = [
        Series(name=name, unit="ms", values=[each * 1e3 for each in values])
        for name, values in found.items()
    ]
    single, root, *mapped = series
    figures = {"single": ratio(single, root)}
    if mapped:
        figures["mapped"] = ratio(mapped[0], root)
    return Answer(figures=figures, lacking=lacking, series=tuple(series))


@contextlib.asynccontextmanager
async def _engine(
    bench: Bench, who: _User | None, uids: tuple[Map, ...], gids: tuple[Map, ...]
) -> AsyncIterator[Helper]:
    """A process of that user with a warm engine, which lives a life of such a sandbox at a time."""
    bundle = Bundle(bench, ["/true"], uids=uids, gids=gids, for_anybody=True)
    directory = tempfile.mkdtemp(prefix="user-", dir=bench.directory)
    where: tuple[str, ...] = ()
    if who is not None:
        os.chown(directory, who.entry.pw_uid, who.entry.pw_gid)
        where = who.where
    words = ("life", directory, bundle.path)
    async with turns.helper("benchmarks.elsewhere", *words, where=where) as helper:
        yield helper


QUESTION = Question(
    name="sandbox-life-of-users",
    wanted=(
        at_most("create+start+wait+destroy by a user with one id / by root", 1.3, key="single"),
        at_most("by a user with a map by newuidmap / by root", 1.8, key="mapped"),
    ),
    measure=measure,
)
