"""The giving side of a transfer: serves state and history to anybody, and keeps training meanwhile.

It speaks on raw libp2p streams rather than on hivemind's protobuf streams, because those wait for ever on a
client that opens a stream and sends nothing, or that asks and never reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, assert_never

from hivemind.p2p import P2P, ServicerBase

from paceline.network.transfer.library import Library, OpenState, Shelves
from paceline.network.transfer.protocol import (
    ANSWER,
    DATA,
    MAX_REFUSAL_BYTES,
    MAX_REQUEST_BYTES,
    REFUSED,
    REQUEST,
    ChunkRequest,
    HashesRequest,
    LinksRequest,
    Pace,
    Request,
    stream_name,
    unpack_request,
)

log = logging.getLogger(__name__)
_MAX_TURNED_AWAY = 8


@dataclass(frozen=True)
class ServeLimits:
    """What others may take from this peer, and how long it waits for them.

    Attributes:
        bytes_per_s: Upload rate over all streams; None for no limit. Leave each fetcher at least one chunk
            of 1 MiB per its `stall_s`, or it takes this peer for stalled.
        streams: Conversations at once.
        streams_per_peer: Conversations at once with one remote peer.
        idle_s: How long a fetcher may take to ask.
        stall_s: How long a fetcher may take to read one answer.
        answer_s: How long an answer may take to be found, the hashing of a whole state included.
        linger_s: How long a stream stays open after a refusal, which ends it.
    """

    bytes_per_s: float | None = None
    streams: int = 16
    streams_per_peer: int = 4
    idle_s: float = 30.0
    stall_s: float = 20.0
    answer_s: float = 120.0
    linger_s: float = 1.0


class StateServer(ServicerBase):  # type: ignore[misc]
    """Answers fetchers from a library, within limits.

    Guarantees:
        Garbage is refused and the donor lives.
        A request flood takes no more than the allowed streams.
        A client that never asks is hung up on.
        A client that never reads is hung up on.
        A state deleted while it is served still arrives.
        A donor sends no faster than its rate.
    """

    def __init__(self, library: Library, limits: ServeLimits | None = None) -> None:
        self._limits = limits or ServeLimits()
        self._shelves = Shelves(library)
        self._pace = Pace(self._limits.bytes_per_s)
        self._streams: Counter[str] = Counter()
        self._turned_away = 0

    async def add_p2p_handlers(
        self, p2p: P2P, wrapper: Any = None, *, namespace: str | None = None, balanced: bool = False
    ) -> None:
        """Start serving.

        Args:
            p2p: This process's connection to the network daemon.
            wrapper: Unused; part of hivemind's signature.
            namespace: The run's prefix.
            balanced: Whether the daemon shares streams out among several processes.
        """
        del wrapper
        await p2p.add_binary_stream_handler(stream_name(namespace or ""), self._serve, balanced=balanced)

    async def remove_p2p_handlers(self, p2p: P2P, *, namespace: str | None = None) -> None:
        """Take no new streams.

        Args:
            p2p: As in `add_p2p_handlers`.
            namespace: As in `add_p2p_handlers`.
        """
        await p2p.remove_binary_stream_handler(stream_name(namespace or ""))

    async def _serve(self, info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = _Conversation(reader, writer, self._shelves, self._pace, self._limits)
        try:
            await self._admit(info.peer_id.to_base58(), conversation)
        except (OSError, EOFError):
            pass  # the fetcher is done, or gone, or stalls (TimeoutError)
        finally:
            conversation.close()
            writer.transport.abort()  # closing would wait for ever on a client that doesn't read

    async def _admit(self, remote: str, conversation: _Conversation) -> None:
        limits = self._limits
        if self._streams.total() < limits.streams and self._streams[remote] < limits.streams_per_peer:
            self._streams[remote] += 1
            try:
                await conversation.run()
            finally:
                self._streams -= Counter([remote])
        elif self._turned_away < _MAX_TURNED_AWAY:
            self._turned_away += 1
            try:
                await conversation.part("busy")
            finally:
                self._turned_away -= 1


class _Refused(Exception):
    pass


class _Conversation:
    """One stream: reads a request, answers it, and only then reads the next. So requests pile up nowhere."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        shelves: Shelves,
        pace: Pace,
        limits: ServeLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._shelves = shelves
        self._pace = pace
        self._limits = limits
        self._state: OpenState | None = None

    async def run(self) -> None:
        try:
            while True:
                request = await self._request()
                body = await self._answer(request)
                await self._pace.take(len(body))
                await self._send(DATA, request.index if isinstance(request, ChunkRequest) else 0, body)
        except _Refused as refusal:
            await self.part(str(refusal))

    async def part(self, cause: str) -> None:
        await self._send(REFUSED, 0, cause.encode()[:MAX_REFUSAL_BYTES])
        # The daemon resets the stream when we close it, and the reset can overtake what was just sent.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while await self._reader.read(4096):
                    pass

    def close(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None

    async def _request(self) -> Request:
        async with asyncio.timeout(self._limits.idle_s):
            (length,) = REQUEST.unpack(await self._reader.readexactly(REQUEST.size))
            if length > MAX_REQUEST_BYTES:
                raise _Refused("a request that is too long")
            body = await self._reader.readexactly(length)
        try:
            return unpack_request(body)
        except ValueError as error:
            raise _Refused(str(error)) from error

    async def _answer(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                return await self._find(request)
        except _Refused:
            raise
        except Exception as error:
            log.warning("this donor could not answer %r", request, exc_info=True)
            raise _Refused("the donor has a fault of its own") from error

    async def _find(self, request: Request) -> bytes:
        match request:
            case LinksRequest():
                return await self._shelves.links(request.after_round, request.limit)
            case HashesRequest():
                return await self._shelves.hashes(await self._open(request))
            case ChunkRequest():
                state = await self._open(request)
                if request.index >= state.layout.num_chunks:
                    raise _Refused(f"there is no chunk {request.index}")
                return await asyncio.to_thread(state.chunk, request.index)
            case _:
                assert_never(request)

    async def _open(self, request: HashesRequest | ChunkRequest) -> OpenState:
        name = request.round_id, request.weights_digest
        if self._state is None or self._state.name != name:
            self.close()
            self._state = await self._shelves.open(*name)
        if self._state is None:
            raise _Refused(f"this state of round {request.round_id} is not here")
        return self._state

    async def _send(self, kind: int, tag: int, body: bytes) -> None:
        self._writer.write(ANSWER.pack(kind, tag, len(body)))
        self._writer.write(body)
        async with asyncio.timeout(self._limits.stall_s):
            await self._writer.drain()
