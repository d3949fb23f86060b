"""What a config asks for, as opposed to what it merely mentions."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def requests(part: msgspec.Struct, fields: Iterable[str], prefix: str) -> list[str]:
    """The JSON paths of those `fields` of `part` that ask for something."""
    names = dict(zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True))
    return [f"{prefix}{names[each]}" for each in fields if asks(getattr(part, each))]


def asks(value: object) -> bool:
    """Whether a value asks for anything: null, false, "" and [] don't, nor objects of only these."""
    rest = [value]  # no recursion: how deep the JSON is nested was somebody else's choice
    while rest:
        each = rest.pop()
        if isinstance(each, msgspec.Raw):
            try:
                rest.append(msgspec.json.decode(each))
            except (msgspec.DecodeError, RecursionError, ValueError):
                return True  # too deep or too long to look at, but not nothing
        elif isinstance(each, Mapping):
            rest.extend(each.values())
        elif isinstance(each, msgspec.Struct):
            rest.extend(getattr(each, field) for field in each.__struct_fields__)
        elif each or (isinstance(each, int) and not isinstance(each, bool)):
            return True  # a number always does: a limit of 0 is one
    return False
