"""The receiving end of a stream: every message is read straight into memory of its own.

Asyncio's `StreamReader` would copy each byte three times on its way from the socket. This protocol lends the
event loop the very memory that the message is going to lie in.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import numpy as np
from hivemind.p2p import P2P

HEAD_BYTES = 1 + P2P.HEADER_LEN
_DISCARD_BYTES = 1 << 16


class Inbox(asyncio.BufferedProtocol):
    """Takes framed messages off a stream; at most one more is read ahead than was taken.

    Attributes:
        limit_bytes: The longest message taken.
        heard_at: When the last byte came, or the inbox was made; `time.monotonic`.
    """

    def __init__(self, transport: asyncio.Transport, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.heard_at = time.monotonic()
        self._transport = transport
        self._head = memoryview(bytearray(HEAD_BYTES))
        self._target, self._filled = self._head, 0
        self._whole: deque[memoryview] = deque()
        self._wrong: ValueError | None = None
        self._over = False
        self._is_deaf = False
        self._is_gone = False
        self._news: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    async def take(self) -> memoryview | None:
        """Wait for the next message; may be cancelled and called again.

        Returns:
            Its body; None when nothing more will come.

        Raises:
            ValueError: It is longer than the limit.
        """
        while not self._whole:
            if self._wrong:
                raise self._wrong
            if self._over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        body = self._whole.popleft()
        if not self._over and not self._transport.is_closing():
            self._transport.resume_reading()
        return body

    async def end(self) -> None:
        """Wait until the other end has hung up, whatever else it says meanwhile, sense or nonsense."""
        self._is_deaf = True
        self._whole.clear()
        self._target, self._filled = memoryview(bytearray(_DISCARD_BYTES)), 0
        while not self._is_gone and not self._transport.is_closing():
            self._transport.resume_reading()
            self._news = asyncio.get_running_loop().create_future()
            await self._news

    async def room(self) -> None:
        """Wait until more may be written.

        Raises:
            ConnectionResetError: The other end is gone.
        """
        await self._room.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the connection is lost")

    def feed(self, data: bytes) -> None:
        """Take what had come before the stream was ours.

        Args:
            data: Bytes.
        """
        view = memoryview(data)
        while view and not self._over:
            room = self.get_buffer(-1)
            size = min(len(room), len(view))
            room[:size], view = view[:size], view[size:]
            self.buffer_updated(size)

    # --- for the event loop

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend memory for what comes next.

        Args:
            sizehint: What the event loop would like; ignored.

        Returns:
            Room for what the message still lacks.
        """
        del sizehint
        return self._target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that more has come.

        Args:
            nbytes: How much of the lent memory it fills.
        """
        self.heard_at = time.monotonic()
        if self._is_deaf:
            return
        self._filled += nbytes
        if self._filled == len(self._target):
            self._filled = 0
            if self._target is self._head:
                self._open_message()
            else:
                self._close_message()

    def eof_received(self) -> bool:
        """Note that the other end says no more; it may still listen.

        Returns:
            True: the stream stays open.
        """
        self._is_gone = True
        self._end()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the stream is gone.

        Args:
            error: Why, if not because we closed it; of no interest here.
        """
        del error
        self._is_gone = True
        self._end()
        self._room.set()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._room.set()

    def _open_message(self) -> None:
        length = int.from_bytes(self._head[1:], P2P.BYTEORDER)
        if self._head[:1] != P2P.MESSAGE_MARKER:
            self._end()  # hivemind's end of stream, or an error of its own
        elif length > self.limit_bytes:
            limit = self.limit_bytes
            self._wrong = self._wrong or ValueError(f"a message of {length} bytes; {limit} is the limit")
            self._end()
        else:
            # Not a bytearray, which would be filled with zeros first.
            self._target = np.empty(length, np.uint8).data
            if self._whole:
                self._transport.pause_reading()
            if not length:
                self._close_message()

    def _close_message(self) -> None:
        self._whole.append(self._target)
        self._target = self._head
        self._tell()

    def _end(self) -> None:
        self._over = True
        if not self._transport.is_closing():
            self._transport.pause_reading()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
