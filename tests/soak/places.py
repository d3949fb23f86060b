"""Where the processes of containers are, and with which scores, against what the records say.

All of it takes its time, as a verb does one thing after the other: it is suspected, and wrong when it
stays.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from asyncrt import _cgroups, _procid
from asyncrt.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.soak.look import Known, Look, Suspicion

FROZEN, UNFROZEN = "stands still, and isn't paused", "is paused, and doesn't stand still"
_SUPERVISOR = "/_supervisor"


def suspicions(look: Look) -> dict[Suspicion, str]:
    """What is where it shouldn't be, or with another's score."""
    checks = _scores, _gofers, _inner, _pauses
    return {key: text for check in checks for key, text in check(look)}


def score_of(pid: int) -> int | None:
    """A process's OOM score; None once it is gone."""
    try:
        with open(f"/proc/{pid}/oom_score_adj") as file:
            return int(file.read())
    except OSError:
        return None


def _scores(look: Look) -> Iterator[tuple[Suspicion, str]]:
    """Each has its own, or what all began with; the supervisor's is no higher than of any that runs."""
    original = score_of(os.getpid())  # we are started as the workers are
    lowest: dict[str, int] = {}
    for id, each in look.known.items():
        record, view = each.record, each.view
        wanted = original if each.score is None else each.score
        for role, whom in (("init", record.init), ("gofer", record.gofer)):
            if whom is None or (role == "init" and view.status is not Status.RUNNING):
                continue
            score = score_of(whom.pid)
            if score not in {wanted, None} and each.mark is not None and _procid.alive(whom):
                yield ("has another score", id, record.instance, role), f"{score}, not {wanted}"
        if each.score is not None and view.status is Status.RUNNING and record.sandbox != id:
            lowest[record.sandbox] = min(each.score, lowest.get(record.sandbox, each.score))
    for id, limit in lowest.items():
        root = look.known.get(id)
        supervisor = None if root is None else root.record.supervisor
        if root is None or supervisor is None or not _is_in(look, root, limit):
            continue
        score = score_of(supervisor.pid)
        if score is not None and score > limit and _procid.alive(supervisor):
            key = "a supervisor lives longer than", id, root.record.instance
            yield (*key, f"at {score}"), f"one of its containers, at {limit}"


def _is_in(look: Look, root: Known, score: int) -> bool:
    """Whether the container with that score is in this sandbox, not in an earlier one of its name."""
    return any(
        each.score == score and each.record.supervisor == root.record.supervisor
        for each in look.known.values()
        if each.record.sandbox == root.record.id != each.record.id
        and each.view.status is Status.RUNNING
    )


def _gofers(look: Look) -> Iterator[tuple[Suspicion, str]]:
    """A gofer is where its supervisor is; that of a sandbox is in none of its containers' cgroups."""
    for id, each in look.known.items():
        gofer, supervisor = each.record.gofer, each.record.supervisor
        if supervisor is None or not _procid.alive(supervisor):
            continue
        where = _cgroups_of(supervisor.pid)
        its = where if gofer is None else _cgroups_of(gofer.pid)
        if its != where and its and where and _procid.alive(supervisor):
            key = "a gofer elsewhere than its supervisor", id, each.record.instance
            yield key, f"{its} {where}"
        has_own = any(path.endswith(_SUPERVISOR) for path in each.record.cgroups)
        if has_own and where and _SUPERVISOR not in where and _procid.alive(supervisor):
            yield ("a supervisor in no cgroup of its own", id, each.record.instance), where


def _cgroups_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            return file.read()
    except OSError:
        return ""


def _inner(look: Look) -> Iterator[tuple[Suspicion, str]]:
    """No process is in a cgroup that has others in it (cgroup-v2.rst)."""
    for path in {os.path.dirname(each) for each in look.cgroups} & look.cgroups:
        with contextlib.suppress(OSError), open(f"{path}/cgroup.procs") as file:
            if pids := file.read().split():
                yield ("processes in an inner cgroup", path), " ".join(pids)


def _pauses(look: Look) -> Iterator[tuple[Suspicion, str]]:
    """What is paused stands still, and nothing else does: a pause is one container's."""
    still = {each.pid for each in look.seen.values() if each.state in "Tt"}
    for id, each in look.known.items():
        record, status = each.record, each.view.status
        if status not in {Status.CREATED, Status.RUNNING, Status.PAUSED}:
            continue
        key = id, record.instance, str(record.revision)
        if record.cgroup:
            frozen = _cgroups.is_frozen(record.cgroup[0].path)
            pids = {record.init.pid} if record.init else set()
        else:
            pids = {seen.pid for seen in look.seen.values() if seen.mark == str(each.mark)}
            frozen = bool(pids) and pids <= still
        if frozen and status is not Status.PAUSED:
            yield (FROZEN, *key), str(each.view)
        if not frozen and status is Status.PAUSED and record.init and _procid.alive(record.init):
            yield (UNFROZEN, *key), f"{each.view} {pids}"


def shared_layers(look: Look) -> list[str]:
    """Kept layers that two gofers have at the same time; only root can see what they have open."""
    found: dict[str, list[int]] = {}
    for each in look.known.values():
        if each.record.gofer is not None:
            for path in _kept_by(look, each.record.gofer.pid):
                found.setdefault(path, []).append(each.record.gofer.pid)
    return [
        f"{path} is of several gofers: {pids}"
        for path, pids in found.items()
        # Whoever had it first must have had it while the last did.
        if len(pids) > 1 and path in _kept_by(look, pids[0])
    ]


def _kept_by(look: Look, pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found & set(look.scene.kept)
