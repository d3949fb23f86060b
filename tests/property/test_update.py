"""Changes of limits: partial whatever they are laid over, and all of them or none in the kernel."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt import _cgroups
from asyncrt.container.limits import Changed, NotChanged
from asyncrt.errors import SpecInvalid
from asyncrt.oci import Spec
from asyncrt.oci.update import Change, lay_over, parse_change
from asyncrt.platforms.cgroups.machine import Machine
from asyncrt.platforms.cgroups.update import PlannedUpdate, plan_update

MIB = 1 << 20

devices = st.fixed_dictionaries({"major": st.integers(7, 9), "minor": st.integers(0, 1)})


def _objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.none() | of for name, of in fields.items()})


limits = st.sampled_from((-1, 0, *(each * MIB for each in (1, 2, 5, 8))))
resources = _objects(
    memory=_objects(limit=limits, swap=limits, reservation=limits, swappiness=st.integers(0, 100)),
    cpu=_objects(
        shares=st.sampled_from((0, 2, 1024)),
        quota=st.sampled_from((-1, 0, 5000, 90000)),
        period=st.sampled_from((0, 10000, 100000)),
        burst=st.sampled_from((0, 5000)),
        idle=st.integers(0, 1),
        cpus=st.sampled_from(("", "0", "0-1")),
    ),
    pids=_objects(limit=st.sampled_from((-1, 0, 9))),
    blockIO=_objects(
        weight=st.sampled_from((0, 10, 500)),
        throttleReadBpsDevice=st.lists(
            devices.flatmap(lambda d: st.just({**d, "rate": 5 + d["minor"]})), max_size=3
        ),
    ),
    hugepageLimits=st.lists(
        st.fixed_dictionaries(
            {"pageSize": st.sampled_from(("2MB", "1GB")), "limit": st.integers(0, 2)}
        ),
        max_size=2,
        unique_by=lambda each: each["pageSize"],
    ),
    rdma=st.dictionaries(
        st.sampled_from(("a", "b")), _objects(hcaHandles=st.integers(0, 3)), max_size=2
    ),
    unified=st.dictionaries(st.sampled_from(("memory.high", "pids.max")), st.just("5"), max_size=2),
)


def _spec(found: dict[str, Any]) -> Spec:
    linux = {"resources": found, "unknown": {"kept": 1.50}}
    config = {"ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["true"]}, "linux": linux}
    return Spec.decode(json.dumps(config).encode())


def _leaves(value: object, path: tuple[object, ...] = ()) -> dict[tuple[object, ...], object]:
    """What is said, by where: elements of arrays by what they are about."""
    found: dict[tuple[object, ...], object] = {}
    if isinstance(value, dict):
        for key, each in value.items():
            found |= _leaves(each, (*path, key))
        return found
    if isinstance(value, list):
        for each in value:
            about = tuple(each.get(key) for key in ("major", "minor", "pageSize", "name"))
            found |= _leaves(each, (*path, about))
        return found
    return {} if value is None else {path: value}


def _laid(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any] | None:
    """The resources with a change, or None where it isn't taken."""
    with contextlib.suppress(SpecInvalid):
        config = json.loads(lay_over(_spec(base), parse_change(change)).config)
        found: dict[str, Any] = config["linux"]["resources"]
        return found
    return None


def _is_taken(found: dict[str, Any]) -> bool:
    with contextlib.suppress(SpecInvalid):
        return bool(_spec(found))
    return False


@given(base=resources.filter(_is_taken), change=resources)
def test_what_is_named_is_so_and_all_else_stays(
    base: dict[str, Any], change: dict[str, Any]
) -> None:
    after = _laid(base, change)
    if after is None:
        return
    was, said, now = (_leaves(each) for each in (base, change, after))
    for where, value in now.items():
        if where[-1] == "swap" and value == -1 and said.get(("memory", "limit")) == -1:
            continue  # a memory without limit takes that along
        if said.get(where) in {None, 0, ""}:  # mostly unset
            assert value in {was.get(where), said.get(where)}
        else:
            assert value == said[where]
    assert was.keys() <= now.keys()
    assert {where for where, value in said.items() if value not in {0, ""}} <= now.keys()


@given(base=resources.filter(_is_taken), change=resources)
def test_a_change_said_twice_is_said_once(base: dict[str, Any], change: dict[str, Any]) -> None:
    once = _laid(base, change)
    if once is not None:
        assert _laid(once, change) == once


@given(base=resources.filter(_is_taken), change=resources)
def test_a_change_leaves_the_rest_of_the_config_as_it_was(
    base: dict[str, Any], change: dict[str, Any]
) -> None:
    spec = _spec(base)
    with contextlib.suppress(SpecInvalid):
        config = lay_over(spec, parse_change(change)).config
        assert b'"unknown":{"kept": 1.5}' in config.replace(b'"unknown": ', b'"unknown":')
        before, after = json.loads(spec.encoded()), json.loads(config)
        before["linux"].pop("resources")
        after["linux"].pop("resources")
        assert before == after


NAMES = (
    *(
        "memory",
        "cpu",
        "pids",
        "blockIO",
        "hugepageLimits",
        "network",
        "rdma",
        "unified",
        "devices",
    ),
    *("limit", "swap", "quota", "period", "cpus", "weight", "weightDevice", "major", "minor"),
    *("throttleReadBpsDevice", "rate", "pageSize", "priorities", "name", "priority", "classID"),
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((-1, 0, 1, 5000, 2**63, 2**64, "0-1", "", "2MB", "eth0", "\0"))
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


limits_of_anything = st.dictionaries(st.sampled_from(NAMES), anything, max_size=3)


@given(base=resources.filter(_is_taken), change=limits_of_anything | anything)
def test_whatever_is_asked_for_is_a_change_or_one_line(base: dict[str, Any], change: Any) -> None:
    """A limit that is taken is one that comes back out of the config."""
    found: Change | None = None
    why = ""
    try:
        found = lay_over(_spec(base), parse_change(change))
    except SpecInvalid as error:
        why = str(error)
    assert "\n" not in why
    assert bool(why) == (found is None)
    if found is not None:
        assert Spec.decode(found.config).config.linux is not None
        planned = plan_update(
            found, None, kept=(), made=(), init=0, name="web", machine=Machine({}, None)
        )
        assert planned.writes == []  # there is nowhere to


class Kernel:
    """A cgroup of files, and what the kernel minds about their values."""

    FILES = ("limit", "memsw", "quota", "period", "burst", "shares", "pids")

    def __init__(self, directory: str, values: dict[str, int]) -> None:
        self.directory = directory
        self.broken = ""
        for name, value in values.items():
            Path(directory, name).write_text(f"{value}\n")

    def values(self) -> dict[str, int]:
        return {name: int(Path(self.directory, name).read_text()) for name in self.FILES}

    def write(self, path: str, value: str) -> None:
        name = os.path.basename(path)
        if name == self.broken:
            raise OSError(errno.EBUSY, "", path)
        now = {**self.values(), name: int(value)}
        valid = (
            now["limit"] <= now["memsw"]
            and now["quota"] <= 4 * now["period"]
            and now["burst"] <= now["quota"]
        )
        if not valid:
            raise OSError(errno.EINVAL, "", path)
        Path(path).write_text(f"{value}\n")


def _values(draw: Any) -> dict[str, int]:
    limit, quota = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return {
        "limit": limit,
        "memsw": limit + draw(st.integers(0, 5)),
        "quota": quota,
        "period": -(-quota // 4) + draw(st.integers(0, 5)),
        "burst": draw(st.integers(0, quota)),
        "shares": draw(st.integers(2, 9)),
        "pids": draw(st.integers(2, 9)),
    }


values = st.composite(_values)()


@contextlib.contextmanager
def _kernel(before: dict[str, int]) -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        kernel = Kernel(directory, before)
        patch.setattr(_cgroups, "write", kernel.write)
        yield kernel


def _planned(kernel: Kernel, wanted: dict[str, int], order: list[str]) -> PlannedUpdate:
    writes = [(name, [(f"{kernel.directory}/{name}", str(wanted[name]))]) for name in order]
    return PlannedUpdate([], {}, writes, {})


@given(before=values, wanted=values, order=st.permutations(Kernel.FILES))
def test_limits_that_hang_on_each_other_are_written_in_an_order_that_works(
    before: dict[str, int], wanted: dict[str, int], order: list[str]
) -> None:
    with _kernel(before) as kernel:
        changed = Changed("")
        changed.apply(_planned(kernel, wanted, order))
        assert kernel.values() == wanted
        assert changed.put_back() == []
        assert kernel.values() == before


@given(
    before=values,
    wanted=values,
    order=st.permutations(Kernel.FILES),
    broken=st.sampled_from(Kernel.FILES),
)
def test_a_limit_that_is_refused_has_all_the_others_put_back(
    before: dict[str, int], wanted: dict[str, int], order: list[str], broken: str
) -> None:
    with _kernel(before) as kernel:
        kernel.broken = broken
        with pytest.raises(NotChanged) as caught:
            Changed("").apply(_planned(kernel, wanted, order))
        assert kernel.values() == before
        error = caught.value
        assert error.left == []
        if error.errno == errno.EBUSY:  # else another can't be without it
            assert (error.at, error.path) == (broken, f"{kernel.directory}/{broken}")


@given(before=values, wanted=values, order=st.permutations(Kernel.FILES))
def test_what_cannot_be_put_back_is_told(
    before: dict[str, int], wanted: dict[str, int], order: list[str]
) -> None:
    with _kernel(before) as kernel:
        changed = Changed("")
        changed.apply(_planned(kernel, wanted, order))
        kernel.broken = "pids"
        assert changed.put_back() == [f"{kernel.directory}/pids {before['pids']}"]
        assert kernel.values() == {**before, "pids": wanted["pids"]}
