"""One attempt at one all-reduce, as one member lives through it: its exchanges, its slice, its clocks.

Two kinds of fault. One that hurts everybody, such as a sender that dies, ends the attempt at once, and all
lines carry the news and the name, so that the swarm can try again without waiting for anybody's time-out. One
that hurts only this member, such as a reducer that dies after it has everybody's values, spoils only its own
result: it goes on serving its slice, so that the others need not fail with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault, ReduceOutcome
from paceline.network.exchange import Dial, Exchange
from paceline.network.group import Group
from paceline.network.reducer import Reducer

_TICK_S = 0.25


class Attempt:
    """One attempt.

    Attributes:
        reducer: Serves this member's slice; it may go on after `run` has returned, from memory of its own.
    """

    def __init__(self, group: Group, dial: Dial, daemon_answers: Callable[[], Awaitable[bool]]) -> None:
        self.reducer = Reducer(group)
        self._group = group
        self._daemon_answers = daemon_answers
        self._exchanges = {
            Exchange(group, place, dial) for place in group.others if group.slices.num_parts(place)
        }
        self._talks: dict[asyncio.Task[None], Exchange] = {}
        self._farewell: asyncio.Task[None] | None = None

    async def run(self) -> ReduceOutcome:
        """Do it.

        Returns:
            How it ended, at most a second or two after the order's `total_s`. The buffer is not touched
            afterwards.
        """
        group, began = self._group, time.monotonic()
        self._talks = {asyncio.create_task(exchange.run()): exchange for exchange in self._exchanges}
        try:
            await self._watch(began)
        finally:
            group.close()
            for talk in self._talks:
                talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        fault = group.missed and await self._honest(group.missed)
        if fault:
            self._farewell = asyncio.create_task(self._part_ways(fault))
        seconds = time.monotonic() - began
        if not fault:
            return ReduceOutcome(True, seconds, group.bytes_in, group.bytes_out)
        return ReduceOutcome(False, seconds, group.bytes_in, group.bytes_out, fault.cause, fault.blamed)

    def cancel(self) -> None:
        """End it soon, with a fault of our own."""
        self._group.fail(Fault("cancelled by this peer", self._group.terms.me))

    async def _watch(self, began: float) -> None:
        group, looked_at = self._group, time.monotonic()
        while not group.failed.done():
            work: tuple[asyncio.Future[Any], ...] = (*self._talks, self.reducer.finished)
            pending = {task for task in work if not task.done()}
            if not pending:
                return
            tick_s = min(_TICK_S, group.order.stall_s / 4)
            await asyncio.wait({*pending, group.failed}, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
            self._settle_talks()
            now = time.monotonic()
            self._check_clocks(now, began, looked_at)
            looked_at = now

    def _settle_talks(self) -> None:
        for talk in [talk for talk in self._talks if talk.done()]:
            exchange = self._talks.pop(talk)
            error = talk.exception()
            if isinstance(error, Fault):
                self._weigh(error, exchange)
            elif error is not None:
                self._group.fail(Fault(f"an error in this peer: {error!r}", self._group.terms.me))

    def _weigh(self, fault: Fault, exchange: Exchange) -> None:
        # A reducer that can't be reached and doesn't send to us either has left everybody.
        if fault.final or not self.reducer.hears(exchange.place):
            self._group.fail(fault)
        else:
            self._group.miss(fault)
            exchange.hang_up()

    def _check_clocks(self, now: float, began: float, looked_at: float) -> None:
        group, limits = self._group, self._group.order
        if now - looked_at > limits.stall_s + _TICK_S:
            group.fail(Fault(f"this peer stood still for {now - looked_at:.0f} s", group.terms.me))
        for talk, exchange in list(self._talks.items()):
            if fault := exchange.overdue(now):
                talk.cancel()
                del self._talks[talk]
                self._weigh(fault, exchange)
        if fault := self.reducer.overdue(now):
            group.fail(fault)
        if now > began + limits.total_s:
            group.fail(self._too_slow())

    def _too_slow(self) -> Fault:
        waiting = self.reducer.laggards() or [exchange.place for exchange in self._talks.values()]
        slowest = self._group.peer(waiting[0]) if waiting else ""
        limit = f"not done within {self._group.order.total_s:g} s"
        return Fault(f"{limit}, waiting for {named(slowest)}" if slowest else limit, slowest)

    async def _part_ways(self, fault: Fault) -> None:
        await asyncio.gather(*(exchange.part_ways(fault) for exchange in self._exchanges))

    async def _honest(self, fault: Fault) -> Fault:
        if fault.blamed != self._group.terms.me and not await self._daemon_answers():
            return Fault("this peer's network daemon is gone", self._group.terms.me)
        return fault
