"""The asking half of a member, once per reducer: hands over its values, takes the means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.proto.averaging_pb2 import (
    ACCEPTED,
    AVERAGED_PART,
    BAD_GROUP_ID,
    NO_CODE,
    PART_FOR_AVERAGING,
    AveragingData,
)

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault, Payload
from paceline.network.group import Group
from paceline.network.line import Line
from paceline.network.messages import Message, carry, complained, complaint
from paceline.network.reducer import WINDOW

Dial = Callable[[str], Awaitable[Line]]
"""Opens a line to a peer id. Raises `P2PDaemonError` when the peer can't be reached, `OSError` when our own
daemon can't."""
_RETRY_S = 0.3
_FAREWELL_S = 2.0


class Exchange:
    """One member's dealings with one reducer.

    Attributes:
        place: The reducer's place in the roster.
        peer: Its peer id.
    """

    def __init__(self, group: Group, place: int, dial: Dial) -> None:
        self.place = place
        self.peer = group.peer(place)
        self._group = group
        self._dial = dial
        self._began_at = time.monotonic()
        self._last_reached_at = self._began_at
        self._line: Line | None = None
        self._accepted = False
        self._window = asyncio.Semaphore(WINDOW)

    async def run(self) -> None:
        """Get all means of the reducer's slice into the buffer.

        Raises:
            Fault: The reducer is at fault, or tells who is.
        """
        line = await self._reach()
        sending = asyncio.create_task(self._send(line))
        try:
            for part in range(self._group.slices.num_parts(self.place)):
                await self._store(part, await self._next(line))
                self._window.release()
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        self.hang_up()

    def overdue(self, now: float) -> Fault | None:
        """Look whether the reducer lets us wait in vain.

        Args:
            now: `time.monotonic`.

        Returns:
            The fault, or None.
        """
        limits = self._group.order
        if not self._accepted and now > self._began_at + limits.start_s:
            return Fault(f"{named(self.peer)} did not begin within {limits.start_s:g} s", self.peer)
        if self._line is not None and now > self._line.heard_at + limits.stall_s:
            return Fault(f"{named(self.peer)} was silent for {limits.stall_s:g} s", self.peer)
        return None

    async def part_ways(self, fault: Fault) -> None:
        """Tell the reducer why we leave, so that it doesn't blame us; does nothing when the line is closed.

        Args:
            fault: Why the attempt fails.
        """
        if self._line is not None:
            await self._line.say_last(complaint(fault), _FAREWELL_S)
            self.hang_up()

    def hang_up(self) -> None:
        """Close the line, if there is one, without a word."""
        if self._line is not None:
            self._line.hang_up()
            self._line = None

    async def _reach(self) -> Line:
        while True:
            line = await self._dialled()
            if line is not None and await self._admitted(line):
                self._accepted = True
                return line
            self.hang_up()
            await asyncio.sleep(_RETRY_S)

    async def _dialled(self) -> Line | None:
        order = self._group.order
        try:
            line = self._line = await self._dial(self.peer)
        except P2PDaemonError as error:
            if time.monotonic() > self._last_reached_at + order.stall_s:
                raise Fault(f"{named(self.peer)} can't be reached", self.peer) from error
            return None
        except (OSError, EOFError) as error:
            raise Fault("this peer's network daemon is gone", self._group.terms.me, final=True) from error
        self._last_reached_at = time.monotonic()
        greeting = AveragingData(code=PART_FOR_AVERAGING, group_id=order.group_id)
        with suppress(OSError):  # hung up on: then there is no answer, either
            await line.send(greeting, order.stall_s)
        return line

    async def _admitted(self, line: Line) -> bool:
        message = await self._heard(line)
        if message is None or message.code == BAD_GROUP_ID:
            return False  # it has not begun yet; `overdue` ends this
        if message.code != ACCEPTED:
            raise self._complaint(message)
        return True

    async def _next(self, line: Line) -> Message:
        message = await self._heard(line)
        if message is None:
            raise Fault(f"lost the connection to {named(self.peer)}", self.peer)
        if message.code != AVERAGED_PART:
            raise self._complaint(message)
        return message

    async def _heard(self, line: Line) -> Message | None:
        try:
            while (message := await line.receive()) is not None and message.code == NO_CODE:
                pass
        except ValueError as error:
            raise Fault(f"{named(self.peer)} answered with {error}", self.peer) from error
        return message

    def _complaint(self, message: Message) -> Fault:
        return complained(message, self.peer, self._group.terms.me, self._group.order.roster)

    async def _store(self, part: int, message: Message) -> None:
        group, payload = self._group, message.payload
        try:
            await group.in_pool(group.store, self.place, part, payload)
        except ValueError as error:
            # The others may get better ones: go on for their sake, since they need our values.
            group.miss(Fault(f"{named(self.peer)} answered with {error}", self.peer))
            return
        group.bytes_in += len(payload)

    async def _send(self, line: Line) -> None:
        group, num_parts = self._group, self._group.slices.num_parts(self.place)
        encoding = asyncio.ensure_future(self._encoded(0))
        try:
            for part in range(num_parts):
                await self._window.acquire()
                payload = await encoding
                if part + 1 < num_parts:  # while this one is on its way
                    encoding = asyncio.ensure_future(self._encoded(part + 1))
                await line.send(carry(PART_FOR_AVERAGING, payload), group.order.stall_s)
                group.bytes_out += len(payload)
        except OSError:
            pass  # the reading half finds out, and why
        except ValueError as error:
            group.fail(Fault(f"this peer's values can't be sent: {error}", group.terms.me))
        finally:
            encoding.cancel()
            await asyncio.wait({encoding})

    async def _encoded(self, part: int) -> Payload:
        group = self._group
        return (
            await group.in_pool(group.encode, self.place, part) if group.order.weights[group.place] else b""
        )
