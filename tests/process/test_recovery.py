"""Recovery beside others: verbs of many processes, and other recoveries."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import asyncrt
from tests.helpers import chaos, reality, truth
from tests.helpers.containers import shell_hook, sleeper
from tests.helpers.processes import Interpreter
from tests.helpers.records import dead_identity, make_record, names, put_exit, put_record
from tests.helpers.recovery import recovered, told

NULL: Any = {"stdout": asyncrt.DEVNULL, "stderr": asyncrt.DEVNULL}
WORKER = "from tests.helpers import chaos; chaos.main()"

# Recovers again and again until told to stop; prints by kind and outcome what it found.
GC = """
import asyncio, collections, json, sys
import asyncrt

async def main():
    counts = collections.Counter()
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    async with asyncrt.Engine(sys.argv[1]) as engine:
        print("ready", flush=True)
        while not told.done() or counts["rounds"] < 6:
            report = await engine.recover(dry_run=counts["rounds"] % 4 == 3)
            counts["rounds"] += 1
            for each in report.findings:
                counts[f"{each.kind}: {each.outcome}"] += 1
                if each.outcome == "failed" or each.kind in {"broken record", "foreign file"}:
                    counts[f"fault: {each}"] += 1
        print(json.dumps(counts), flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_beside_random_verbs_of_many_processes_it_harms_nothing(
    root: str, tmp_path: Path, full: bool
) -> None:
    """No verb fails for it, no live container goes: the judges of the chaos see nothing of it."""
    processes, tasks, seconds = (4, 20, 20) if full else (4, 6, 5)
    path = str(tmp_path / "log")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Interpreter(WORKER, root, path, seed, tasks, seconds))
            for seed in range(processes)
        ]
        recoveries = [stack.enter_context(Interpreter(GC, root)) for _ in range(2)]
        for each in (*workers, *recoveries):
            assert each.line(timeout=60) == "ready"
        for each in workers:
            each.say("go")
        faults = [
            fault for each in workers for fault in json.loads(each.line(timeout=seconds + 90))
        ]
        counts: Counter[str] = Counter()
        for each in recoveries:
            each.say("stop")
            counts.update(json.loads(each.line(timeout=60)))
            assert each.wait(timeout=30) == 0
        assert [each.wait(timeout=30) for each in workers] == [0] * processes
    assert faults == []
    assert {name for name in counts if name.startswith("fault")} == set()
    assert counts["rounds"] > 10, counts
    # Its own removals and folds have no witness in the log; what workers did must be legal still.
    wrong = [each for each in chaos.judge(path)[0] if "a save was lost" not in each]
    assert [each for each in wrong if "which nobody destroyed" not in each] == []
    asyncio.run(_clear(root))
    assert reality.files(root) == set()
    assert reality.settles(reality.strays) is None


async def _clear(root: str) -> None:
    async with asyncrt.Engine(root) as engine:
        await recovered(engine)
        assert reality.settles(partial(truth.lies, root)) is None
        views = await engine.list()
        assert {name.split(".")[0] for name in names(root)} == {view.id for view in views}
        await engine.destroy_many([view.id for view in views])


async def test_two_at_once_do_everything_once(
    root: str, engine: asyncrt.Engine, tmp_path: Path, full: bool
) -> None:
    log = tmp_path / "log"
    async with asyncrt.Engine(root) as second:
        for round in range(30 if full else 5):
            log.write_text("")
            hook = shell_hook('echo "$2" >>"$1"', str(log), "hook")
            ids = [f"c{number}" for number in range(10)]
            for id in ids:
                await engine.create(id, spec=sleeper(hooks={"poststop": [hook]}), **NULL)
                await (await engine.load(id)).kill("KILL")
            for id in ids:
                await (await engine.load(id)).wait()
                state = asyncrt.StateFile(root, asyncrt.ContainerId(id))
                await state.lock()
                record = await state.load_locked()
                record.deletion = _begun()
                await state.save_locked(record)
                state.close()
            for number in range(10):
                put_record(
                    root, make_record(f"e{number}", init=dead_identity(), instance=f"i{number}")
                )
                put_exit(root, f"e{number}", f"i{number}")
                (Path(root) / f"v{number}.lock").touch()
            reports = await asyncio.gather(engine.recover(), second.recover(), engine.recover())
            found = Counter(
                each[:2] for report in reports for each in told(report) if each[2] == "mended"
            )
            expected = {
                *(("interrupted deletion", id) for id in ids),
                *(("unrecorded end", f"e{number}") for number in range(10)),
                *(("files without record", f"v{number}") for number in range(10)),
            }
            mine = {key: count for key, count in found.items() if key[0] != "missing event"}
            assert set(mine) == expected, round
            # Files whose lock's files one took away may be seen to go by two.
            assert all(
                count == 1 for key, count in mine.items() if key[0] != "files without record"
            )
            assert log.read_text().split() == ["hook"] * 10
            await engine.destroy_many([f"e{number}" for number in range(10)])
            await recovered(engine)
            assert names(root) == []


def _begun() -> Any:
    from asyncrt.state import Deletion

    return Deletion(poststop=("pending",))


async def test_a_hook_that_never_ends_holds_it_up_for_a_bounded_time(
    root: str, engine: asyncrt.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook is killed and stays begun; everything else is mended meanwhile."""
    hook = shell_hook('echo begun >>"$1"; sleep 1000', str(tmp_path / "begun"))
    container = await engine.create("web", spec=sleeper(hooks={"poststop": [hook]}), **NULL)
    await container.kill("KILL")
    await container.wait()
    state = asyncrt.StateFile(root, asyncrt.ContainerId("web"))
    await state.lock()
    record = await state.load_locked()
    record.deletion = _begun()
    await state.save_locked(record)
    state.close()
    (Path(root) / "left.lock").touch()
    seconds, found = 0.3, set()
    while not (tmp_path / "begun").exists():  # on a slow machine the time may be up before that
        monkeypatch.setattr("asyncrt.engine.recovery.work.EACH_SECONDS", seconds)
        report = await engine.recover()
        found |= set(told(report))
        (failed,) = [each for each in report.of("failed") if each.id == "web"]
        assert f"took longer than {seconds:g} s" in failed.why
        seconds *= 2
    assert ("files without record", "left", "mended") in found
    assert reality.containers_processes() == []
    from asyncrt.state import read_record

    deletion = read_record(root, "web").deletion
    assert deletion is not None
    assert deletion.poststop == ("begun",)
    monkeypatch.undo()
    config = Path(root) / "web.d" / "config.json"
    config.write_text(config.read_text().replace("sleep 1000", "true"))
    await recovered(engine)
    assert names(root) == []


@pytest.mark.parametrize("seed", range(3))
async def test_leases_of_living_owners_are_respected(
    root: str, engine: asyncrt.Engine, seed: int
) -> None:
    """Also of what has ended: it is its owner's to collect, whoever the owner is by now."""
    chance = random.Random(seed)
    async with asyncrt.Engine(root) as heir:
        for number in range(8):
            container = await engine.create(
                f"c{number}", spec=sleeper(), lease=asyncrt.Lease(chance.choice([0, 5])), **NULL
            )
            if chance.random() < 0.5:
                await (await heir.load(container.id)).renew(asyncrt.Lease(0))
            if chance.random() < 0.7:
                await container.kill("KILL")
                await container.wait()
        report = await engine.recover()
        assert {each.kind for each in report.findings} <= {"unrecorded end"}
        assert len(await engine.list()) == 8
        await engine.destroy_many([f"c{number}" for number in range(8)])
