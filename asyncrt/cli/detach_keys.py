"""Keys that leave a terminal, found in what is typed."""

from __future__ import annotations


def parse(text: str) -> bytes:
    """The bytes of keys like "ctrl-p,ctrl-q" or "a,b"; "" is none. Raises ValueError."""
    found = bytearray()
    for each in text.split(",") if text else ():
        name = each.removeprefix("ctrl-")
        if len(name) != 1 or not name.isascii() or (name == each and not name.isprintable()):
            raise ValueError(f"{each!r} is no key: write a, or ctrl-a")
        if name == each:
            found += name.encode()
        elif "@" <= name.upper() <= "_":
            found.append(ord(name.upper()) - 64)
        else:
            raise ValueError(f"there is no {each}: write ctrl- with a letter or one of @[\\]^_")
    return bytes(found)


class Keys:
    """Finds the detach keys in what is typed. A beginning of them is kept until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._kept = b""

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys were typed: then nothing more is."""
        if not self._keys:
            return data, False
        data = self._kept + data
        place = data.find(self._keys)
        if place >= 0:
            return data[:place], True
        keep = next(
            size
            for size in range(min(len(self._keys) - 1, len(data)), -1, -1)
            if data.endswith(self._keys[:size])
        )
        self._kept = data[len(data) - keep :]
        return data[: len(data) - keep], False
