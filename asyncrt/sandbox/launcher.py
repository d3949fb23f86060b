"""Asking for supervisors, one-shots and hook runners, and giving them up cleanly."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncrt._threads import finish
from asyncrt.launch import frames
from asyncrt.sandbox.channel import Channel, ChannelClosed
from asyncrt.sandbox.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from asyncrt.launch.failure import FailureReport
    from asyncrt.launch.plan import CgroupReport, HookPlan, IdMaps

# The fork server forks one at a time. A few under way keep it busy; more would only pile up
# descriptors, and let a burst of creates hold the event loop for one long tick.
_AT_ONCE = 8
_HOOKS_AT_ONCE = 64  # the fork server's socket holds some 270 requests, one more is an error
_GIVE_UP_SECONDS = 10.0

ROLES = {"own": frames.SUPERVISED, "caller": frames.ONE_SHOT}


class LaunchFailed(Exception):  # noqa: N818 - internal: create makes a StartFailed of it
    """A step of the launch failed."""

    def __init__(self, report: FailureReport) -> None:
        super().__init__(report)
        self.report = report


class Launched(NamedTuple):
    """An init at its gate: the identities of it and its launcher, and the launcher's channel.

    `waits`: it isn't there yet, but waits for the hooks of its creation, see `proceed`.
    `cgroup`: what was made for it and where it is, None without one. `gofer`: who holds its layer.
    """

    init: dict[str, Any]
    launcher: dict[str, Any]
    channel: Channel
    waits: bool
    cgroup: CgroupReport | None
    gofer: dict[str, Any] | None


class Seat(Protocol):
    """An init that was asked of somebody else than the fork server."""

    def take(self) -> Channel:
        """The channel over which it hears what it is to become, whose end is the caller's to see to."""

    async def taken(self) -> None:
        """Returns once there is one; raises why there is none."""

    def close(self) -> None:
        """Let go of all of it but a channel that was taken. Idempotent."""


class Launcher:
    """What an engine starts processes with. Belongs to one event loop.

    Its processes say on their command lines that they are of `root`.
    """

    def __init__(self, root: str) -> None:
        self.server = ForkServer(root)
        self.turns = asyncio.Semaphore(_AT_ONCE)
        self._hooks = asyncio.Semaphore(_HOOKS_AT_ONCE)

    async def launch(
        self,
        supervision: str,
        message: dict[str, Any],
        fds: Sequence[int],
        seat: Seat | None = None,
        patience: float = _GIVE_UP_SECONDS,
    ) -> Launched:
        """Launch an init; `fds` are the container's directory and three streams, still the caller's.

        `seat` is an init that doesn't come from the fork server. One that gives no answer is waited
        for `patience` seconds more. Raises LaunchFailed, ChannelClosed when the launcher was killed,
        OSError, and what the seat raises. If cancelled, or on an error, everything that was started
        has ended when this returns.
        """
        message = {"op": "launch", **message}
        if seat is None:
            channel, rest = self._ask(ROLES[supervision], message, fds)
        else:
            channel, rest = await self._sit_down(seat, message, fds, patience), b""
        try:
            await channel.send_rest(rest)
            report = await channel.greeting()
            if "failed" in report:
                raise LaunchFailed(report["failed"])
            who = report["launched"]
            return Launched(
                *(who["init"], who["launcher"], channel, "waits" in report),
                *(report["cgroup"], who.get("gofer")),
            )
        except BaseException:
            await finish(self.abandon(channel))
            raise

    @staticmethod
    async def proceed(channel: Channel, state: str) -> None:
        """Have an init that waits go on to its gate; `state` is for the hooks that it runs itself.

        Raises LaunchFailed, ChannelClosed, OSError. If cancelled, it goes on until the channel is
        given up.
        """
        await channel.send({"op": "proceed", "state": state})
        report = await channel.greeting()
        if "failed" in report:
            raise LaunchFailed(report["failed"])

    def _ask(
        self, role: bytes, message: dict[str, Any], fds: Sequence[int]
    ) -> tuple[Channel, bytes]:
        """A channel to a process in that role, and what of the message is still to be sent.

        The message lies in the socket before its other end is given away: one wake-up less.
        """
        frame = frames.encode({**message, "fds": len(fds)})
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            sent = frames.send(ours, frame, fds)
            self.server.hand(role, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Channel(ours), frame[sent:]

    async def _sit_down(
        self, seat: Seat, message: dict[str, Any], fds: Sequence[int], patience: float
    ) -> Channel:
        """As `_ask`; if cancelled, what was made of it has ended."""
        channel = seat.take()
        try:
            try:
                await channel.send(message, fds)
            except ChannelClosed:
                await seat.taken()  # that there is none may be why
                raise
            await seat.taken()
        except BaseException:
            seat.close()
            await finish(self.abandon(channel, patience))
            raise
        return channel

    @staticmethod
    async def abandon(channel: Channel, patience: float = _GIVE_UP_SECONDS) -> None:
        """Give an unacknowledged launch up: wait, within bounds, until its processes have ended.

        Those are `patience` seconds, and the usual time at most. If cancelled, they end all the same.
        """
        try:
            async with asyncio.timeout(min(patience, _GIVE_UP_SECONDS)):
                await channel.hang_up()
        except TimeoutError:
            pass  # its record, which is there before it, lets gc and delete find it
        finally:
            channel.close()

    async def run_hook(self, hook: HookPlan, state: str) -> str:
        """Run a hook to its end; "" when it succeeded, else why not.

        If cancelled, the hook's process group is killed before this returns.
        """
        async with self._hooks:
            try:
                channel, rest = self._ask(frames.HOOK, {"hook": hook, "state": state}, ())
            except OSError as error:
                return f"its runner can't be started: {error.strerror}"
            try:
                await channel.send_rest(rest)
                report = await channel.greeting()
            except ChannelClosed:
                return "its runner was killed"
            except OSError as error:
                return f"its runner can't be started: {error.strerror}"
            finally:
                await finish(self.abandon(channel))
        if "failed" in report:
            return f"its runner can't be started: {os.strerror(report['failed']['errno'])}"
        return str(report["why"])

    async def clear(self, path: str, maps: IdMaps, ids: tuple[int, int]) -> str:
        """Take a directory away as the root of a user namespace; "" when it is gone, else why not.

        If cancelled, it goes on to its end.
        """
        try:
            channel, rest = self._ask(frames.CLEAR, {"path": path, "maps": maps, "ids": ids}, ())
        except OSError as error:
            return f"nobody can be started for it: {error.strerror}"
        try:
            await channel.send_rest(rest)
            report = await channel.greeting()
        except (ChannelClosed, OSError):
            return "whoever was to do it was killed"
        finally:
            channel.close()
        if "failed" in report:
            failed = report["failed"]
            return f"{failed['what']}: {os.strerror(failed['errno'])}"
        return str(report["why"])

    async def close(self) -> None:
        """End the fork server; what it forked stays. If cancelled, it ends by itself soon after."""
        await self.server.close()
