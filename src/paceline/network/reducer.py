"""The serving half of a member: averages its own slice for all, part by part.

Values are validated when they are added up, and a bad part ends the attempt: it can't leave the rest waiting
for a sum that never closes. So does any fault of a sender, for everybody, at once and with a name: whoever is
served here is told. A member that merely fails to *receive* harms nobody, and is served no longer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hivemind.proto.averaging_pb2 import (
    ACCEPTED,
    AVERAGED_PART,
    CANCELLED,
    DUPLICATE_PEER_ID,
    PART_FOR_AVERAGING,
    AveragingData,
)

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault, Payload
from paceline.network.group import Group
from paceline.network.line import Line
from paceline.network.messages import KEEPALIVE, Message, carry, complained, complaint
from paceline.network.summing import PartSum

WINDOW = 4
"""Parts that a sender may be ahead of the means it was given. It bounds what a reducer holds in memory:
`WINDOW` parts per member."""


class Reducer:
    """Averages one slice.

    Attributes:
        group: The attempt.
        finished: Done when every part of the slice is averaged.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began_at = time.monotonic()
        self._num_parts = group.slices.num_parts(group.place)
        self._lines: dict[int, Line] = {}
        self._served_at: dict[int, float] = {}
        self._received = dict.fromkeys(group.others, 0)
        self._handed = dict.fromkeys(group.others, 0)
        self._sums: dict[int, PartSum] = {}
        loop = asyncio.get_running_loop()
        self._means: dict[int, asyncio.Future[Payload]] = {
            part: loop.create_future() for part in range(self._num_parts)
        }
        self._unread = dict.fromkeys(self._means, len(group.others))
        self._unaveraged = self._num_parts
        self._averaging: set[asyncio.Task[None]] = set()
        group.failed.add_done_callback(lambda _: self._sums.clear())
        if not self._num_parts:
            self.finished.set_result(None)
        elif not group.others:
            for part in self._means:
                self._go_on(part)

    def hears(self, place: int) -> bool:
        """Tell whether a member is, or has finished, sending to us.

        Args:
            place: Its place in the roster.

        Returns:
            Whether it has a line here, or nothing more to send.
        """
        return place in self._lines or not self._num_parts

    def overdue(self, now: float) -> Fault | None:
        """Look for a member that everybody waits for in vain.

        Args:
            now: `time.monotonic`.

        Returns:
            The fault, or None.
        """
        limits = self.group.order
        for place in self.laggards():
            line = self._lines.get(place)
            name = named(self.group.peer(place))
            if line is None:
                if now > self._began_at + limits.start_s:
                    return Fault(f"{name} did not begin within {limits.start_s:g} s", self.group.peer(place))
            elif now > max(line.heard_at, self._served_at[place]) + limits.stall_s:
                return Fault(f"{name} was silent for {limits.stall_s:g} s", self.group.peer(place))
        return None

    def laggards(self) -> list[int]:
        """Find the members that the next mean waits for.

        Returns:
            Their places; none when all values are here.
        """
        least = min(self._received.values(), default=self._num_parts)
        if least == self._num_parts:
            return []
        return [place for place, received in self._received.items() if received == least]

    async def serve(self, line: Line, place: int) -> None:
        """Talk with one member until it hangs up, or the attempt fails.

        Args:
            line: Its line.
            place: Its place in the roster.
        """
        if place in self._lines:
            await line.say_last(AveragingData(code=DUPLICATE_PEER_ID), self.group.order.stall_s)
            return
        self._lines[place] = line
        self._served_at[place] = time.monotonic()
        taking = asyncio.create_task(self._take(line, place))
        giving = asyncio.create_task(self._give(line, place))
        try:
            await asyncio.wait({taking, giving}, return_when=asyncio.FIRST_COMPLETED)
            if giving.done():
                await self._linger(taking)
        finally:
            taking.cancel()
            giving.cancel()
            await asyncio.wait({taking, giving})
            self._see_off(place)
        if self.group.failed.done():
            fault = self.group.failed.result()
            await line.say_last(complaint(fault), self.group.order.total_s)

    async def _linger(self, taking: asyncio.Task[None]) -> None:
        # The daemon may still hold megabytes for a slow link, which our hanging up would drop.
        either: set[asyncio.Future[Any]] = {taking, self.group.failed}
        await asyncio.wait(either, timeout=self.group.order.total_s, return_when=asyncio.FIRST_COMPLETED)

    def _see_off(self, place: int) -> None:
        if self._received[place] < self._num_parts:
            peer = self.group.peer(place)
            self.group.fail(Fault(f"lost the connection to {named(peer)}", peer))

    async def _take(self, line: Line, place: int) -> None:
        peer = self.group.peer(place)
        try:
            for part in range(self._num_parts):
                message = await line.receive()
                if message is None:
                    return
                self._count(place, part, self._payload(place, part, message))
            while (message := await line.receive()) is not None:
                self._refuse_odd(message, place)
                raise ValueError("more parts than its slice has")
        except ValueError as error:
            self.group.fail(Fault(f"{named(peer)} sent {error}", peer))
        except Fault as fault:
            self.group.fail(fault)

    def _payload(self, place: int, part: int, message: Message) -> Payload:
        self._refuse_odd(message, place)
        if part >= self._handed[place] + WINDOW:
            raise ValueError("parts too far ahead")
        payload = message.payload
        if len(payload) and not self.group.order.weights[place]:
            raise ValueError("values though it has no weight")
        self.group.bytes_in += len(payload)
        return payload

    def _refuse_odd(self, message: Message, place: int) -> None:
        if message.code == CANCELLED:
            group = self.group
            raise complained(message, group.peer(place), group.terms.me, group.order.roster)
        if message.code != PART_FOR_AVERAGING:
            raise ValueError(f"a message of code {message.code}")

    def _count(self, place: int, part: int, payload: Payload) -> None:
        self._received[place] += 1
        if not self.group.failed.done():
            self._sum(part).put(place, payload)
            self._go_on(part)

    def _sum(self, part: int) -> PartSum:
        return self._sums.setdefault(part, PartSum(self.group, part))

    def _go_on(self, part: int) -> None:
        total = self._sum(part)
        if not total.busy:
            total.busy = True
            task = asyncio.create_task(self._add_up(part, total))
            self._averaging.add(task)
            task.add_done_callback(self._averaging.discard)

    async def _add_up(self, part: int, total: PartSum) -> None:
        group = self.group
        try:
            while total.can_go_on() and not group.failed.done():
                payload = await group.in_pool(total.go_on)
                if payload is not None and not group.failed.done():
                    self._close(part, payload)
        except Fault as fault:
            group.fail(fault)
        except Exception as error:
            group.fail(Fault(f"this peer's slice can't be averaged: {error!r}", group.terms.me))
        finally:
            total.busy = False

    def _close(self, part: int, payload: Payload) -> None:
        del self._sums[part]
        self.group.bytes_out += len(payload) * len(self.group.others)
        self._means[part].set_result(payload)
        self._unaveraged -= 1
        if not self._unaveraged:
            self.finished.set_result(None)

    async def _give(self, line: Line, place: int) -> None:
        stall_s = self.group.order.stall_s
        try:
            await line.send(AveragingData(code=ACCEPTED), stall_s)
            for part in range(self._num_parts):
                while not (mean := await self._mean(part)):
                    await line.send(KEEPALIVE, stall_s)
                self._handed[place] += 1
                await line.send(carry(AVERAGED_PART, mean), stall_s)
                self._served_at[place] = time.monotonic()
                self._let_go(part)
        except OSError:
            pass  # it reads no more; whether that matters is for `_see_off`
        except Fault:
            pass  # told by `serve`

    async def _mean(self, part: int) -> Payload:
        mean = self._means[part]
        pause_s = min(1.0, self.group.order.stall_s / 4)
        either: set[asyncio.Future[Any]] = {mean, self.group.failed}
        await asyncio.wait(either, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        if self.group.failed.done():
            raise self.group.failed.result()
        return mean.result() if mean.done() else b""

    def _let_go(self, part: int) -> None:
        self._unread[part] -= 1
        if not self._unread[part]:
            del self._means[part]
