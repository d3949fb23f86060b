"""Which containers a list is about: each test costs more than the one before it, and comes after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from asyncrt import _durable, _paths
from asyncrt.errors import SpecInvalid
from asyncrt.ids import check_id
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.state.record import Record
    from asyncrt.state.view import View

BROKEN = "broken"  # what a record that can't be read has instead of a status
_STATUSES = {*map(str, Status), BROKEN}
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class _Annotated(msgspec.Struct, gc=False):
    annotations: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Annotated)


class Filter(msgspec.Struct, frozen=True):
    """What a container must be to be listed; what isn't said doesn't matter.

    `statuses` may have "broken" among them. `annotations` are to be there with that value, or with
    any if it is None.
    """

    statuses: frozenset[str] | None = None
    sandbox: str | None = None
    annotations: tuple[tuple[str, str | None], ...] = ()
    until: datetime | None = None  # created before it

    @classmethod
    def of(
        cls,
        status: str | Iterable[str] | None,
        sandbox: str | None,
        annotations: Mapping[str, str | None] | None,
        until: datetime | timedelta | None = None,
    ) -> Filter | None:
        """As a list is asked for it; None when everything is. Raises SpecInvalid or InvalidId."""
        wanted = None
        if status is not None:
            given: object = status
            if not isinstance(given, Iterable):
                raise SpecInvalid(
                    json_path="", why=f"status is {given!r:.40}, must be one or several"
                )
            wanted = frozenset(map(str, (status,) if isinstance(status, str) else status))
            if unknown := sorted(wanted - _STATUSES):
                raise SpecInvalid(
                    json_path="",
                    why=f"there is no status {unknown[0]!r}; choose of {', '.join(sorted(_STATUSES))}",
                )
        if sandbox is not None:
            check_id(sandbox)
        named: object = annotations
        if named is not None and not isinstance(named, Mapping):
            why = f"annotations is {named!r:.40}, must be a mapping, like {{'tier': 'web', 'owner': None}}"
            raise SpecInvalid(json_path="", why=why)
        before = moment_of(until, "until")
        if wanted is None and sandbox is None and not annotations and before is None:
            return None
        return cls(wanted, sandbox, tuple((annotations or {}).items()), before)

    def may_fit(self, record: Record) -> bool:
        """Whether it could be listed, before anybody looks at its processes."""
        if self.sandbox is not None and record.sandbox != self.sandbox:
            return False
        return self.until is None or record.created_at < self.until

    def fits(self, root: str, view: View) -> bool:
        """Whether it is listed. Reads its config.json only if all but the annotations fit."""
        status = BROKEN if view.status is None else view.status.value
        if self.statuses is not None and status not in self.statuses:
            return False
        if self.sandbox is not None and view.sandbox != self.sandbox:
            return False
        if self.until is not None and (view.created_at is None or view.created_at >= self.until):
            return False
        return not self.annotations or self._annotated(root, view.id)

    def _annotated(self, root: str, container_id: str) -> bool:
        path = f"{root}/{container_id}{_paths.DIRECTORY}/{_paths.CONFIG}"
        try:
            found = _decoder.decode(_durable.read(path)).annotations or {}
        except (OSError, msgspec.DecodeError, ValueError, RecursionError):
            return False
        return all(
            name in found and (value is None or found[name] == value)
            for name, value in self.annotations
        )


def moment_of(given: datetime | timedelta | None, name: str) -> datetime | None:
    """That time, or so long ago, as what an argument of that `name` means. Raises SpecInvalid."""
    value: object = given
    if isinstance(value, timedelta):
        try:
            return datetime.now(UTC) - value
        except OverflowError:  # before all that there is, or after
            return _FIRST if value > timedelta(0) else _LAST
    if value is None or (isinstance(value, datetime) and value.tzinfo is not None):
        return value
    why = f"{name} is {value!r}, must be a timedelta or a datetime with a zone"
    raise SpecInvalid(json_path="", why=why)
