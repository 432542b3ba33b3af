"""One stream of messages: what arrives, what it may cost, and how its end is noticed. Over socket pairs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hivemind.proto.averaging_pb2 import ACCEPTED, NO_CODE, PART_FOR_AVERAGING, AveragingData

from paceline.network.line import Line
from paceline.network.messages import carry

LIMIT = 1 << 20
Play = Callable[[Line, asyncio.StreamWriter], Awaitable[None]]


def _played(play: Play, first: bytes = b"", *, ended: bool = False) -> None:
    # `first` and the end of the stream have come before the line takes over.
    async def run() -> None:
        near, far = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=far)
        reader, near_writer = await asyncio.open_connection(sock=near)
        writer.write(first)
        await writer.drain()
        if ended:
            writer.write_eof()
        await asyncio.sleep(0.05)
        line = Line(reader, near_writer, LIMIT)
        async with asyncio.timeout(20.0):
            await play(line, writer)
        line.hang_up()
        writer.transport.abort()

    asyncio.run(run())


def _framed(message: AveragingData) -> bytes:
    body: bytes = message.SerializeToString()
    return b"\0" + len(body).to_bytes(8, "big") + body


WORD = _framed(AveragingData(code=ACCEPTED))


@pytest.mark.parametrize("cut", [0, 1, 9, len(WORD), len(WORD) + 4, 2 * len(WORD)])
def test_what_came_before_the_line_took_over_is_not_lost(cut: int) -> None:
    async def play(line: Line, writer: asyncio.StreamWriter) -> None:
        writer.write((2 * WORD)[cut:])
        for _ in range(2):
            message = await line.receive()
            assert message is not None
            assert message.code == ACCEPTED

    _played(play, (2 * WORD)[:cut])


@pytest.mark.parametrize("first", [b"", WORD, WORD + WORD[:5], WORD + WORD[:-1]])
def test_an_end_that_came_before_the_line_took_over_is_noticed(first: bytes) -> None:
    async def play(line: Line, _writer: asyncio.StreamWriter) -> None:
        if first:
            assert await line.receive() is not None
        assert await line.receive() is None

    _played(play, first, ended=True)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def play(line: Line, writer: asyncio.StreamWriter) -> None:
        for byte in WORD:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await line.receive()
            writer.write(bytes([byte]))
        assert await line.receive() is not None

    _played(play)


def test_no_more_than_one_message_is_read_ahead() -> None:
    async def play(line: Line, writer: asyncio.StreamWriter) -> None:
        part = _framed(AveragingData(code=PART_FOR_AVERAGING, group_id=bytes(LIMIT - 100)))
        writer.write(4 * part)
        assert await line.receive() is not None
        await asyncio.sleep(0.5)
        assert writer.transport.get_write_buffer_size() > LIMIT  # the third has not been read, nor the fourth
        for _ in range(3):
            assert await line.receive() is not None
        assert writer.transport.get_write_buffer_size() == 0

    _played(play)


def test_messages_that_are_too_long_or_none_are_refused() -> None:
    async def long(line: Line, _writer: asyncio.StreamWriter) -> None:
        assert await line.receive() is not None
        with pytest.raises(ValueError, match="is the limit"):
            await line.receive()

    async def silent(line: Line, _writer: asyncio.StreamWriter) -> None:
        assert await line.receive() is None

    _played(long, WORD + b"\0" + (1 << 40).to_bytes(8, "big") + bytes(100))
    _played(silent, b"\7" + bytes(40))


def test_an_empty_message_is_one() -> None:
    async def play(line: Line, _writer: asyncio.StreamWriter) -> None:
        message = await line.receive()
        assert message is not None
        assert message.code == NO_CODE

    _played(play, b"\0" + bytes(8))


def test_a_writer_whose_listener_is_gone_is_told() -> None:
    async def play(line: Line, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        with pytest.raises(OSError, match="lost"):
            for _ in range(100):
                await line.send(carry(PART_FOR_AVERAGING, bytes(LIMIT // 2)), 5.0)

    _played(play)


def test_a_writer_whose_listener_does_not_read_is_told_after_the_stall_limit() -> None:
    async def play(line: Line, _writer: asyncio.StreamWriter) -> None:
        with pytest.raises(TimeoutError):
            for _ in range(100):
                await line.send(carry(PART_FOR_AVERAGING, bytes(LIMIT // 2)), 0.2)

    _played(play)


@pytest.mark.parametrize("first", [b"\0" + (1 << 40).to_bytes(8, "big"), b"\7" * 9, WORD, WORD[:5]])
def test_the_last_word_waits_for_the_other_end_to_hang_up_whatever_that_says(first: bytes) -> None:
    async def run() -> None:
        near, far = socket.socketpair()
        their_reader, writer = await asyncio.open_connection(sock=far)
        line = Line(*await asyncio.open_connection(sock=near), LIMIT)
        writer.write(first + bytes(3 * LIMIT))
        with suppress(ValueError, TimeoutError):
            async with asyncio.timeout(0.1):
                await line.receive()
        last = asyncio.create_task(line.say_last(AveragingData(code=ACCEPTED), 20.0))
        assert await their_reader.readexactly(len(WORD)) == WORD
        await asyncio.sleep(0.2)
        assert not last.done()
        await writer.drain()
        writer.close()
        await asyncio.wait_for(last, 10.0)
        line.hang_up()

    asyncio.run(run())
