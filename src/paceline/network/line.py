"""One libp2p stream that carries `AveragingData` messages, framed as hivemind frames them.

Hivemind's own stream calls hide what an all-reduce must know: whether bytes still move (a part of 2 MiB may
take a slow link longer than any stall limit), and that the other end is gone (its client waits for its own
writer first, its server reads ahead without limit). So both ends work on the raw stream:

    marker (1 byte), length (8 bytes, big-endian), protobuf of that length

Whoever says the last word waits for the other to hang up: the daemon resets a stream that is closed, and a
reset can overtake the last message.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

import base58
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hivemind.p2p import P2P
from hivemind.proto.averaging_pb2 import (
    BAD_GROUP_ID,
    CANCELLED,
    DUPLICATE_PEER_ID,
    INTERNAL_ERROR,
    NO_CODE,
    PROTOCOL_VIOLATION,
    AveragingData,
)
from hivemind.proto.runtime_pb2 import Tensor

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault

OVERHEAD_BYTES = 1024
"""Room in a message for all that is not payload."""
_HEAD_BYTES = 1 + P2P.HEADER_LEN
_PIECE_BYTES = 1 << 18
_CODES = {
    BAD_GROUP_ID: "does not know this attempt",
    CANCELLED: "gave up",
    DUPLICATE_PEER_ID: "takes only one stream per member",
    INTERNAL_ERROR: "could not go on",
    PROTOCOL_VIOLATION: "was sent something invalid",
}

KEEPALIVE = AveragingData(code=NO_CODE)
"""Said by a reducer that has nothing to say yet, so that silence always means trouble."""


def carry(code: int, payload: bytes) -> AveragingData:
    """Put a part into a message.

    Args:
        code: `PART_FOR_AVERAGING` or `AVERAGED_PART`.
        payload: The encoded part.

    Returns:
        The message.
    """
    return AveragingData(code=code, tensor_part=Tensor(buffer=payload))


def complaint(fault: Fault, code: int = CANCELLED) -> AveragingData:
    """Tell a fault to another member.

    Args:
        fault: What happened; whom to name goes into `peer_id`.
        code: What kind of answer it is.

    Returns:
        The message.
    """
    return AveragingData(code=code, peer_id=base58.b58decode(fault.spread))


def complained(message: AveragingData, speaker: str, me: str, roster: tuple[str, ...]) -> Fault:
    """Understand another member's complaint.

    Args:
        message: Anything that is neither a part nor a keep-alive.
        speaker: Peer id of who said it.
        me: Our own peer id.
        roster: Who can be blamed. A speaker that blames nobody else of it is blamed itself. So is one that
            blames us, since we know of no fault of ours; yet to others we repeat what it says, so that a
            sick member's word does not stand against that of whoever found it out.

    Returns:
        The fault.
    """
    # Encoding is quadratic in the length, which the speaker chooses.
    accused = base58.b58encode(message.peer_id).decode() if len(message.peer_id) <= 64 else ""
    phrase = _CODES.get(message.code, f"answered with code {message.code}")
    if accused == me:
        return Fault(f"{named(speaker)} {phrase} and blames this peer", speaker, final=True, spread=me)
    if accused == speaker or accused not in roster:
        return Fault(f"{named(speaker)} {phrase}", speaker, final=True)
    return Fault(f"{named(speaker)} {phrase} because of {named(accused)}", accused, final=True)


class Line:
    """Both directions of one stream. Every method may be cancelled and called again.

    Attributes:
        limit_bytes: The longest message taken.
        heard_at: When the last byte came, or the line was opened; `time.monotonic`.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter, limit_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._body: bytearray | None = None
        self._filled = 0
        self.limit_bytes = limit_bytes
        self.heard_at = time.monotonic()

    async def receive(self) -> AveragingData | None:
        """Wait for the next message.

        Returns:
            The message; None when the other end has hung up, is gone, or will say no more.

        Raises:
            ValueError: What came is no message, or longer than the limit.
        """
        try:
            if self._body is None and not await self._receive_head():
                return None
            body = await self._receive_body()
            return AveragingData.FromString(body)
        except (OSError, EOFError):
            return None
        except DecodeError as error:
            raise ValueError("a message that does not parse") from error

    async def send(self, message: AveragingData, stall_s: float) -> None:
        """Say something, and wait until it has left, or almost.

        Args:
            message: What to say. It is said whole, even if the call is cancelled.
            stall_s: How long not a single byte may leave.

        Raises:
            OSError: The other end is gone.
            TimeoutError: It has not read for `stall_s`; an `OSError`, too.
        """
        body = message.SerializeToString()
        # One write, so that a cancelled call leaves no half message behind.
        head = P2P.MESSAGE_MARKER + len(body).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER)
        self._writer.writelines([head, body])
        transport = self._writer.transport
        while True:
            waiting = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(stall_s):
                    return await self._writer.drain()
            except TimeoutError:
                if transport.get_write_buffer_size() >= waiting:
                    raise

    async def say_last(self, message: AveragingData, wait_s: float) -> None:
        """Say the last word: send it, then wait until the other end has hung up.

        Args:
            message: The last word.
            wait_s: How long all that may take.
        """
        with suppress(OSError, ValueError):
            async with asyncio.timeout(wait_s):
                await self.send(message, wait_s)
                while await self.receive() is not None:
                    pass

    def hang_up(self) -> None:
        """Close the stream at once, whatever is still on its way."""
        self._writer.transport.abort()

    async def _receive_head(self) -> bool:
        head = await self._reader.readexactly(_HEAD_BYTES)
        self.heard_at = time.monotonic()
        if head[:1] != P2P.MESSAGE_MARKER:
            return False  # hivemind's end of stream, or an error of its own
        length = int.from_bytes(head[1:], P2P.BYTEORDER)
        if length > self.limit_bytes:
            raise ValueError(f"a message of {length} bytes; {self.limit_bytes} is the limit")
        self._body, self._filled = bytearray(length), 0
        return True

    async def _receive_body(self) -> bytearray:
        body = self._body
        assert body is not None
        with memoryview(body) as view:
            while self._filled < len(body):
                piece = await self._reader.read(min(len(body) - self._filled, _PIECE_BYTES))
                if not piece:
                    raise EOFError
                view[self._filled : self._filled + len(piece)] = piece
                self._filled += len(piece)
                self.heard_at = time.monotonic()
        self._body = None
        return body
