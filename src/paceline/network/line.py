"""One libp2p stream that carries `AveragingData` messages, framed as hivemind frames them.

Hivemind's own stream calls hide what an all-reduce must know: whether bytes still move (a part of 4 MiB may
take a slow link longer than any stall limit), and that the other end is gone (its client waits for its own
writer first, its server reads ahead without limit). So both ends work on the raw stream:

    marker (1 byte), length (8 bytes, big-endian), protobuf of that length

Whoever says the last word waits for the other to hang up: the daemon resets a stream that is closed, and a
reset can overtake the last message.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import cast

from hivemind.p2p import P2P
from hivemind.proto.averaging_pb2 import AveragingData

from paceline.network.inbox import Inbox
from paceline.network.messages import Message, parsed, spelled

OVERHEAD_BYTES = 1024
"""Room in a message for all that is not payload."""


class Line:
    """Both directions of one stream. Every method may be cancelled and called again."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, limit_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._transport = cast(asyncio.Transport, writer.transport)
        self._inbox = Inbox(self._transport, limit_bytes)
        self._is_ours = False

    def take_up_to(self, limit_bytes: int) -> None:
        """Change the limit that the line was opened with.

        Args:
            limit_bytes: The longest message taken from now on.
        """
        self._inbox.limit_bytes = limit_bytes

    @property
    def heard_at(self) -> float:
        """When the last byte came, or the line was opened; `time.monotonic`."""
        return self._inbox.heard_at

    async def receive(self) -> Message | None:
        """Wait for the next message.

        Returns:
            The message; None when the other end has hung up, is gone, or will say no more.

        Raises:
            ValueError: What came is no message, or longer than the limit.
        """
        await self._take_over()
        body = await self._inbox.take()
        return None if body is None else parsed(body)

    async def send(self, message: Message | AveragingData, stall_s: float) -> None:
        """Say something, and wait until it has left, or almost.

        Args:
            message: What to say. It is said whole, even if the call is cancelled, so its payload must stay
                as it is.
            stall_s: How long not a single byte may leave.

        Raises:
            OSError: The other end is gone.
            TimeoutError: It has not read for `stall_s`; an `OSError`, too.
        """
        await self._take_over()
        pieces = spelled(message)
        head = P2P.MESSAGE_MARKER + sum(map(len, pieces)).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER)
        transport = self._transport
        # One write, so that a cancelled call leaves no half message behind.
        transport.writelines([head, *pieces])
        while True:
            waiting = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(stall_s):
                    return await self._inbox.room()
            except TimeoutError:
                if transport.get_write_buffer_size() >= waiting:
                    raise

    async def say_last(self, message: Message | AveragingData, wait_s: float) -> None:
        """Say the last word: send it, then wait until the other end has hung up.

        Args:
            message: The last word.
            wait_s: How long all that may take.
        """
        with suppress(OSError):
            async with asyncio.timeout(wait_s):
                await self.send(message, wait_s)
                await self._inbox.end()

    def hang_up(self) -> None:
        """Close the stream at once, whatever is still on its way."""
        self._transport.abort()

    async def _take_over(self) -> None:
        # From asyncio's stream, before the first word. Nothing here waits.
        if self._is_ours:
            return
        self._is_ours = True
        transport = self._transport
        if not transport.is_closing():
            transport.pause_reading()
        transport.set_protocol(self._inbox)
        self._reader.feed_eof()  # only so that `read` gives what is there
        with suppress(OSError):
            self._inbox.feed(await self._reader.read())
        if transport.is_closing():
            self._inbox.connection_lost(None)
        else:
            transport.resume_reading()  # an end of stream that the reader had seen comes again
