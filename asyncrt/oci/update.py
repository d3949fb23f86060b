"""A change of a container's limits: some fields of `linux.resources`, laid over those it has.

Partial: what isn't named stays. Null, and what OCI calls unset (0 bytes, 0 shares, an empty list of
processors), names nothing, as encoders of other languages write them for every field they know. What
stands for one device, page size or interface replaces what was said of exactly that one. A property
that no resources have is refused: of a whole config the specification wants it ignored, but a change
that silently changes nothing is a limit that isn't there.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from asyncrt.errors import SpecInvalid
from asyncrt.oci import _why
from asyncrt.oci._encode import encode
from asyncrt.oci._why import child
from asyncrt.oci.bundle import decode_config
from asyncrt.oci.check_resources import AT
from asyncrt.oci.config import (
    BlockIo,
    Config,
    CpuLimits,
    HugepageLimit,
    InterfacePriority,
    MemoryLimits,
    NetworkLimits,
    PidsLimit,
    RdmaLimit,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from asyncrt.oci.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncrt.oci.spec import Spec

    Object = dict[str, object]

_OBJECTS: dict[str, type[msgspec.Struct]] = {
    "memory": MemoryLimits,
    "cpu": CpuLimits,
    "pids": PidsLimit,
    "blockIO": BlockIo,
    "network": NetworkLimits,
}
_DEVICE = ("major", "minor")
# Arrays: what their elements are, and by what one is told from another.
_ARRAYS: dict[str, tuple[type[msgspec.Struct], tuple[str, ...]]] = {
    "hugepageLimits": (HugepageLimit, ("pageSize",)),
    "weightDevice": (WeightDevice, _DEVICE),
    "throttleReadBpsDevice": (ThrottleDevice, _DEVICE),
    "throttleWriteBpsDevice": (ThrottleDevice, _DEVICE),
    "throttleReadIOPSDevice": (ThrottleDevice, _DEVICE),
    "throttleWriteIOPSDevice": (ThrottleDevice, _DEVICE),
    "priorities": (InterfacePriority, ("name",)),
}
# What 0 and "" leave unset; elsewhere they are values.
_UNSET: dict[type[msgspec.Struct], frozenset[str]] = {
    MemoryLimits: frozenset({"limit", "reservation", "swap", "kernel", "kernelTCP"}),
    CpuLimits: frozenset(
        {"shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"}
    ),
    BlockIo: frozenset({"weight", "leafWeight"}),
    WeightDevice: frozenset({"weight", "leafWeight"}),
}
_NOTHING: tuple[object, ...] = (None, {}, [])
# What one file holds, or what is only right together.
_TOGETHER = {"memory": ("limit", "swap"), "cpu": ("quota", "period", "burst")}


class Change(NamedTuple):
    """What a change comes to.

    `config` is the container's config with it, as JSON. `resources` is what was named, with what is
    needed beside it to say it to the kernel; `beside` are the JSON paths of the latter.
    """

    config: bytes
    resources: Resources
    beside: frozenset[str]


def parse_change(resources: Mapping[str, object]) -> Object:
    """What `resources` names, as plain JSON values. Raises SpecInvalid with the JSON path.

    So too when it names nothing: whoever asks for a change has misspelt one, or forgotten it.
    """
    data = encode({"ociVersion": OCI_VERSION, "linux": {"resources": resources}})
    try:
        msgspec.json.decode(data, type=Config)
    except msgspec.ValidationError as error:
        raise _why.invalid_value(error, data, None) from None
    plain: Object | None = msgspec.json.decode(data)["linux"]["resources"]
    named = _named(plain or {}, Resources, AT)
    if not named:
        raise SpecInvalid(json_path=AT, why="nothing to change is named")
    return named


def read_change(data: bytes, file: str) -> Object:
    """What the bytes of a JSON file name. Raises SpecInvalid with the file and the JSON path."""
    document = _why.parse(data, file)
    if not isinstance(document, dict):
        raise SpecInvalid(json_path="", why="expected an object", path=file)
    try:
        return parse_change(document)
    except SpecInvalid as error:
        raise SpecInvalid(json_path=error.json_path, why=error.why, path=file) from error


def lay_over(spec: Spec, named: Object) -> Change:
    """The spec's config with a change from `parse_change`. Raises SpecInvalid with the JSON path."""
    before = _resources_of(spec)
    named = _with_unlimited_swap(_without_devices(named, before), before)
    after = _laid_over(before, named)
    focus, beside = _with_neighbours(named, after)
    # Checked by itself first: an element's place in an array is then that in the change.
    linux = decode_config(encode({"ociVersion": OCI_VERSION, "linux": {"resources": focus}})).linux
    config = _replaced(spec.encoded(), after)
    decode_config(config)
    resources = linux.resources if linux is not None else None
    return Change(config, resources or Resources(), beside)


def _resources_of(spec: Spec) -> Object:
    """The spec's resources as plain JSON values, with all that this version doesn't know."""
    linux = msgspec.json.decode(spec.encoded()).get("linux") or {}
    found: Object = linux.get("resources") or {}
    return found


def _named(part: Object, kind: type[msgspec.Struct], at: str) -> Object:
    """Without what is null or unset, and without the empty objects and arrays that this leaves."""
    found: Object = {}
    for name, value in part.items():
        where = child(at, name)
        if name not in kind.__struct_encode_fields__:
            raise SpecInvalid(json_path=where, why="there is no such limit")
        kept = _kept(name, value, where)
        if kept not in _NOTHING and (kept or name not in _UNSET.get(kind, ())):
            found[name] = kept
    return found


def _kept(name: str, value: object, at: str) -> object:
    if isinstance(value, dict):
        if name in _OBJECTS:
            return _named(value, _OBJECTS[name], at)
        if name == "rdma":
            limits = {
                key: _named(each or {}, RdmaLimit, child(at, key)) for key, each in value.items()
            }
            return {key: each for key, each in limits.items() if each}
    elif isinstance(value, list) and name in _ARRAYS:
        kind, _ = _ARRAYS[name]
        return [_named(each, kind, f"{at}[{index}]") for index, each in enumerate(value)]
    return value


def _without_devices(named: Object, before: Object) -> Object:
    """The same rules as before change nothing: who sends all they know of a container send them."""
    rest = {name: value for name, value in named.items() if name != "devices"}
    if len(rest) < len(named) and named["devices"] != before.get("devices"):
        why = "which devices it may use can't be changed once it is created"
        raise SpecInvalid(json_path=f"{AT}.devices", why=why)
    return rest


def _with_unlimited_swap(named: Object, before: Object) -> Object:
    """Memory without limit has a swap without one, which includes it: so does runc's update."""
    new, old = named.get("memory"), before.get("memory")
    if not isinstance(new, dict) or new.get("limit") != -1 or "swap" in new:
        return named
    if not isinstance(old, dict) or not old.get("swap"):
        return named
    return {**named, "memory": {**new, "swap": -1}}


def _laid_over(before: object, named: Object) -> Object:
    """The fields of both; those that are named, as they are named."""
    after: Object = dict(before) if isinstance(before, dict) else {}
    for name, value in named.items():
        if isinstance(value, dict):
            after[name] = _laid_over(after.get(name), value)
        elif isinstance(value, list):
            after[name] = _merged(after.get(name), value, _ARRAYS[name][1])
        else:
            after[name] = value
    return after


def _merged(before: object, named: list[Object], keys: tuple[str, ...]) -> list[Object]:
    """The elements of both; those of one identity are one, in the place that it had."""
    found: dict[tuple[object, ...], Object] = {}
    for each in [*(before if isinstance(before, list) else ()), *named]:
        identity = tuple(each.get(key) for key in keys)
        found[identity] = {**found.get(identity, {}), **each}
    return list(found.values())


def _with_neighbours(named: Object, after: Object) -> tuple[Object, frozenset[str]]:
    """With those that stay and are needed to say or to judge it; and the JSON paths of these."""
    focus = dict(named)
    beside: set[str] = set()
    for part, names in _TOGETHER.items():
        some, whole = named.get(part), after.get(part)
        if isinstance(some, dict) and isinstance(whole, dict) and not some.keys().isdisjoint(names):
            extra = {each: whole[each] for each in names if each not in some and whole.get(each)}
            focus[part] = {**extra, **some}
            beside.update(f"{AT}.{part}.{each}" for each in extra)
    return focus, frozenset(beside)


def _replaced(config: bytes, resources: Object) -> bytes:
    """A config with other resources; all the rest is, byte for byte, as it was."""
    top = msgspec.json.decode(config, type=dict[str, msgspec.Raw])
    linux = msgspec.json.decode(top.get("linux", b"null"), type=dict[str, msgspec.Raw] | None)
    parts = {**(linux or {}), "resources": msgspec.Raw(encode(resources))}
    return msgspec.json.encode({**top, "linux": parts})
