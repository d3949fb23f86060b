"""Leases from the owner's side: a container that doesn't outlive who asked for it.

The lease hangs on the engine's connection to the supervisor, which is kept open for it: one
descriptor per container owned. However the owner's process ends, the kernel closes that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from asyncrt import status as statuses
from asyncrt._threads import finish
from asyncrt.container.change import change, hung_up, unresponsive
from asyncrt.container.context import own_identity, patience, refuse_foreign
from asyncrt.errors import InvalidTransition, SandboxUnresponsive, SpecInvalid
from asyncrt.sandbox import ChannelClosed
from asyncrt.state import Leased
from asyncrt.status import Status

if TYPE_CHECKING:
    from asyncrt.container.change import Change
    from asyncrt.container.context import Context
    from asyncrt.ids import ContainerId
    from asyncrt.state import Record


_LONGEST = 1e15  # seconds: thirty million years, and still a time


class Lease(msgspec.Struct, frozen=True, gc=False):
    """What has it is stopped, reason "lease", once its owner is gone for `grace_seconds`.

    The owner is the engine that asked, gone when it is closed or its process has ended, by whatever.
    With a grace of 0, attached, it ends at once; within the grace somebody else may take it over by
    `Container.renew`. A process forked from the owner's doesn't hold it.
    """

    grace_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raise SpecInvalid for a grace that is no number of seconds, 0 or more."""
        given: object = self.grace_seconds
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not 0 <= self.grace_seconds <= _LONGEST:
            raise SpecInvalid(
                json_path="",
                why=f"a lease's grace_seconds is {given!r:.40}, must be a number, 0 or more; "
                "to need no owner, have no lease",
            )


def check_lease(lease: object) -> None:
    """Raise SpecInvalid for what is neither a lease nor None."""
    if lease is not None and not isinstance(lease, Lease):
        raise SpecInvalid(json_path="", why=f"lease is {lease!r:.40}, must be a Lease or None")


def seconds_of(lease: Lease | None) -> float | None:
    """As messages to a supervisor have it."""
    return None if lease is None else float(lease.grace_seconds)


def refuse_caller(supervision: str) -> None:
    """Raise SpecInvalid for a lease that nobody would keep."""
    if supervision == "caller":
        raise SpecInvalid(json_path="", why='a lease needs supervision="own": nobody else keeps it')


def owned_by_us(lease: Lease | None) -> Leased | None:
    """As the record has it."""
    return None if lease is None else Leased(float(lease.grace_seconds), (own_identity(),))


async def renew(
    context: Context,
    container_id: ContainerId,
    instance: str,
    lease: Lease | None,
    timeout: float | None,
) -> None:
    """Own the container from now on, or with None let it need no owner; see Container.renew."""
    check_lease(lease)
    operation = "renew for nobody" if lease is None else "renew"
    async with change(context, container_id, operation, instance=instance, timeout=timeout) as held:
        refuse_foreign(held.record, "renew")
        refuse_caller(held.record.supervision)
        await finish(_renew(held, lease, patience(timeout)))


async def _renew(held: Change, lease: Lease | None, seconds: float) -> None:
    """Whose it is says the supervisor; the record follows.

    gc removes what has ended and whose owners are all gone. So whoever may have become one is added
    before the supervisor is asked, and who isn't one any more taken out only after it has agreed.
    """
    record, before, after = held.record, held.record.lease, owned_by_us(lease)
    if after is None:
        await _save(held, None)
    elif before is not None:
        owners = dict.fromkeys((*before.owners, *after.owners))
        await _save(held, Leased(max(before.grace, after.grace), tuple(owners)))
    if record.status is not Status.STOPPED:
        await _ask(held.context, record, lease, seconds)
        await _save(held, after)


async def _save(held: Change, lease: Leased | None) -> None:
    if held.record.lease != lease:
        held.record.lease = lease
        await held.save()


async def _ask(context: Context, record: Record, lease: Lease | None, seconds: float) -> None:
    key = record.id, record.instance
    with context.channel(record, "renew") as channel:
        held = context.watches.holds(key)
        context.watches.hold(key)  # first: once it is ours nobody may close it for being idle
        done = False
        try:
            async with asyncio.timeout(seconds):
                answer = await channel.request("lease", grace=seconds_of(lease))
            done = "ok" in answer
        except TimeoutError:
            raise unresponsive(record.id, "renew", seconds) from None
        except ChannelClosed:
            raise await hung_up(context, record, "renew") from None
        except OSError as error:
            raise context.unreachable(record, error) from error
        finally:
            if lease is None or not (done or held):
                context.watches.let_go(key)
    if "ended" in answer:
        raise InvalidTransition(
            container_id=record.id,
            operation="renew",
            status=Status.STOPPED.value,
            allowed=statuses.allowed("renew"),
        )
    if not done:
        raise SandboxUnresponsive(
            container_id=record.id, operation="renew", why=f"its supervisor answered {answer}"
        )
