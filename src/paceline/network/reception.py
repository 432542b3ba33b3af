"""Where every incoming line arrives: leads members to their attempt, and keeps strangers at the door.

A member may call before this peer has heard of the plan, so an unknown attempt is waited for; the caller is
kept informed and pays for the waiting. What callers can hold of this peer is bounded in number, in time, and
in memory: a greeting is at most `OVERHEAD_BYTES` long, and nothing more is read before it is answered.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hivemind.proto.averaging_pb2 import BAD_GROUP_ID, PROTOCOL_VIOLATION, AveragingData

from paceline.network.attempt import Attempt
from paceline.network.line import OVERHEAD_BYTES, Line
from paceline.network.messages import KEEPALIVE
from paceline.network.reducer import Reducer

MAX_CALLERS = 128
"""Callers that are not yet led to an attempt; twice the longest roster."""
MAX_CALLERS_PER_PEER = 4
GREETING_S = 10.0
"""How long a caller may take to say what it wants."""
PATIENCE_S = 60.0
"""How long an unknown attempt is waited for; a member whose own patience is longer calls again."""
KEEP_S = 60.0
"""How long an attempt that is over answers late callers."""
_PAUSE_S = 0.5
_LAST_WORD_S = 2.0


class Reception:
    """Takes calls.

    Guarantees:
        No caller is served that is not in the roster.
        A caller who says nothing is hung up on.
        Callers beyond the limit are hung up on.
    """

    def __init__(self, part_bytes: int) -> None:
        """Open the door.

        Args:
            part_bytes: Size of the largest encoded part.
        """
        self._message_bytes = part_bytes + OVERHEAD_BYTES
        self._attempts: dict[bytes, Attempt] = {}
        self._news = asyncio.Event()
        self._callers: Counter[str] = Counter()

    def knows(self, group_id: bytes) -> bool:
        """Tell whether an attempt runs, or is remembered.

        Args:
            group_id: Its key.

        Returns:
            Whether it can't be started anew.
        """
        return group_id in self._attempts

    def expect(self, group_id: bytes, attempt: Attempt) -> None:
        """Lead the members of an attempt to it from now on.

        Args:
            group_id: Its key.
            attempt: The attempt.
        """
        self._attempts[group_id] = attempt
        self._news.set()
        self._news = asyncio.Event()

    def forget_later(self, group_id: bytes) -> None:
        """Let an attempt that is over go, after a while.

        Args:
            group_id: Its key.
        """
        asyncio.get_running_loop().call_later(KEEP_S, self._attempts.pop, group_id, None)

    async def take(self, info: Any, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one incoming stream from beginning to end; a handler for hivemind's binary streams.

        Args:
            info: Whose stream it is, as the daemon has authenticated it.
            reader: Their bytes.
            writer: Ours.
        """
        caller = info.peer_id.to_base58()
        line = Line(reader, writer, OVERHEAD_BYTES)
        try:
            with self._at_the_door(caller):
                reducer = await self._led(line, caller)
            if reducer is not None:
                line.take_up_to(self._message_bytes)
                await reducer.serve(line, reducer.group.order.roster.index(caller))
        except (OSError, ValueError):
            pass  # gone, or not worth an answer
        finally:
            line.hang_up()

    @contextmanager
    def _at_the_door(self, caller: str) -> Iterator[None]:
        if self._callers.total() >= MAX_CALLERS or self._callers[caller] >= MAX_CALLERS_PER_PEER:
            raise ValueError("too many callers")
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers -= Counter([caller])

    async def _led(self, line: Line, caller: str) -> Reducer | None:
        async with asyncio.timeout(GREETING_S):
            greeting = await line.receive()
        if greeting is None:
            return None
        attempt = await self._awaited(line, greeting.group_id)
        if attempt is None:
            await line.say_last(AveragingData(code=BAD_GROUP_ID), _LAST_WORD_S)
        elif caller not in attempt.reducer.group.order.roster:
            await line.say_last(AveragingData(code=PROTOCOL_VIOLATION), _LAST_WORD_S)
        else:
            return attempt.reducer
        return None

    async def _awaited(self, line: Line, group_id: bytes) -> Attempt | None:
        # Nothing may come before we have answered: this ends with a caller who leaves or misbehaves.
        leaving = asyncio.create_task(line.receive())
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        try:
            while (attempt := self._attempts.get(group_id)) is None:
                if leaving.done() or asyncio.get_running_loop().time() > deadline:
                    return None
                news = asyncio.create_task(self._news.wait())
                await asyncio.wait({leaving, news}, timeout=_PAUSE_S, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                await line.send(KEEPALIVE, _LAST_WORD_S)
            return attempt
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
