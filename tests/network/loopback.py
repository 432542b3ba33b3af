"""Members of an all-reduce in one event loop, joined by socket pairs instead of libp2p: all of the protocol,
none of the processes. What a member is, how it may misbehave, and what the mean must be."""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.proto.averaging_pb2 import PART_FOR_AVERAGING, AveragingData
from numpy.typing import NDArray

from paceline.core.signing import SigningKey
from paceline.learning.aggregate import mean_factors, weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.attempt import Attempt
from paceline.network.butterfly import Arithmetic, ReduceOrder, ReduceOutcome
from paceline.network.group import Group, Terms
from paceline.network.line import OVERHEAD_BYTES, Line
from paceline.network.reception import Reception
from tests.network.reduce_program import values

NUM_ELEMENTS = 1000
PART_ELEMENTS = 16
LIMITS: dict[str, Any] = {"start_s": 15.0, "stall_s": 10.0, "total_s": 120.0}
"""No more than a busy machine needs; a test of a limit sets its own."""


@dataclass
class Member:
    """One member: its key decides its place in the roster."""

    peer_id: str
    terms: Terms
    reception: Reception
    start_s: float = 0.0
    alive: bool = True
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    bytes_per_s: float = float("inf")
    attempt: Attempt | None = None

    def fill(self, seed: int) -> NDArray[np.float32]:
        self.terms.buffer[:] = values(seed, len(self.terms.buffer))
        return self.terms.buffer.copy()


async def _stream(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=end)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, members: tuple[Member, Member]
) -> None:
    """Be the network between two members: as slow as the slower one, still while one is frozen."""
    with suppress(OSError):
        rate = min(member.bytes_per_s for member in members)
        while data := await reader.read(1 << 16 if math.isinf(rate) else 128):
            for member in members:
                await member.awake.wait()
            await asyncio.sleep(len(data) / rate)
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class Loopback:
    """A swarm whose network can be disturbed."""

    def __init__(
        self, num_members: int, codec: str, sizes: tuple[int, int], pool: ThreadPoolExecutor
    ) -> None:
        num_elements, part_elements = sizes
        self.codec = make_codec(codec)  # type: ignore[arg-type]
        self.arithmetic = arithmetic = Arithmetic(self.codec, weighted_mean, part_elements, mean_factors)
        ids = sorted(SigningKey.from_seed(secrets.token_bytes(32)).peer_id for _ in range(num_members))
        self.members = [
            Member(
                peer_id,
                Terms(peer_id, arithmetic, np.zeros(num_elements, np.float32), pool),
                Reception(arithmetic.part_bytes),
            )
            for peer_id in ids
        ]
        self.streams: list[tuple[str, str, list[asyncio.StreamWriter]]] = []
        for member in self.members:
            member.awake.set()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def roster(self) -> tuple[str, ...]:
        return tuple(member.peer_id for member in self.members)

    def order(self, weights: tuple[int, ...] = (), **limits: float) -> ReduceOrder:
        weights = weights or (1,) * len(self.members)
        return ReduceOrder(secrets.token_hex(32), self.roster, weights, **{**LIMITS, **limits})

    def member(self, peer_id: str) -> Member:
        return next(member for member in self.members if member.peer_id == peer_id)

    async def open(self, caller: str, callee: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream, as the daemons would: both ends know who the other is."""
        if not self.member(callee).alive:
            raise P2PDaemonError("no route")
        ends = [await _stream(end) for pair in (socket.socketpair(), socket.socketpair()) for end in pair]
        (reader, writer), near, far, (their_reader, their_writer) = ends
        info: Any = SimpleNamespace(peer_id=SimpleNamespace(to_base58=lambda: caller))
        self._spawn(self.member(callee).reception.take(info, their_reader, their_writer))
        members = self.member(caller), self.member(callee)
        self._spawn(_pump(near[0], far[1], members))
        self._spawn(_pump(far[0], near[1], members))
        self.streams.append((caller, callee, [near[1], far[1]]))
        return reader, writer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def dial(self, caller: str, callee: str) -> Line:
        reader, writer = await self.open(caller, callee)
        return Line(reader, writer, self.arithmetic.part_bytes + OVERHEAD_BYTES)

    async def greet(self, caller: str, callee: str, order: ReduceOrder) -> Line:
        """Open a line by hand and say which attempt it is for."""
        line = await self.dial(caller, callee)
        await line.send(AveragingData(code=PART_FOR_AVERAGING, group_id=order.group_id), 5.0)
        return line

    def cut(self, peer_id: str) -> None:
        """Let a peer die: all its streams are reset and nobody reaches it any more."""
        self.member(peer_id).alive = False
        for caller, callee, writers in self.streams:
            if peer_id in (caller, callee):
                for writer in writers:
                    writer.transport.abort()

    async def reduce(self, member: Member, order: ReduceOrder) -> ReduceOutcome:
        await asyncio.sleep(member.start_s)

        async def dial(peer_id: str) -> Line:
            return await self.dial(member.peer_id, peer_id)

        async def daemon_answers() -> bool:
            return True

        member.attempt = Attempt(Group(order, member.terms), dial, daemon_answers)
        member.reception.expect(order.group_id, member.attempt)
        return await member.attempt.run()

    async def round(self, order: ReduceOrder, members: list[Member] | None = None) -> list[ReduceOutcome]:
        """Let members reduce, each with fresh values."""
        doing = [self.reduce(member, order) for member in members or self.members]
        return list(await asyncio.gather(*doing))


@contextmanager
def loopback(
    num_members: int = 4,
    codec: str = "fp32",
    num_elements: int = NUM_ELEMENTS,
    part_elements: int = PART_ELEMENTS,
) -> Iterator[Loopback]:
    with ThreadPoolExecutor(2) as pool:
        yield Loopback(num_members, codec, (num_elements, part_elements), pool)
