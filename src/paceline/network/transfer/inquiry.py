"""The asking side of one conversation with one donor, whom it believes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hivemind.p2p import P2P, P2PDaemonError, PeerID

from paceline.network.transfer.protocol import (
    ANSWER,
    DATA,
    MAX_PAGE_BYTES,
    MAX_REFUSAL_BYTES,
    REFUSED,
    Request,
    pack_request,
    stream_name,
)

_MAX_CAUSE = 160


class DonorFault(Exception):
    """What a donor did wrong, in words that fit after its name."""


class Inquiry:
    """An open stream to a donor. Every wait on it ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stall_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._stall_s = stall_s

    def ask(self, request: Request) -> None:
        """Send a request; several may be under way at once.

        Args:
            request: The request.
        """
        self._writer.write(pack_request(request))

    async def answer(self, size_bytes: int | None, *, tag: int = 0, extra_s: float = 0.0) -> bytes:
        """Wait for the answer to the oldest request that has none.

        Args:
            size_bytes: How long it must be; None for anything up to a page of history.
            tag: Index of the chunk asked for.
            extra_s: Seconds to wait beyond `stall_s`.

        Returns:
            The body, of the wanted size but otherwise unchecked.

        Raises:
            DonorFault: It stalls, hangs up, refuses, or sends something else than asked.
        """
        try:
            async with asyncio.timeout(self._stall_s + extra_s):
                kind, got_tag, length = ANSWER.unpack(await self._reader.readexactly(ANSWER.size))
                if kind == DATA:
                    _check(got_tag, length, tag, size_bytes)
                elif kind != REFUSED or length > MAX_REFUSAL_BYTES:
                    raise DonorFault("sent something that is no answer")
                body = await self._reader.readexactly(length)
        except TimeoutError as error:
            raise DonorFault(f"stalled for {self._stall_s + extra_s:.3g} s") from error
        except (OSError, EOFError) as error:
            raise DonorFault("closed the stream before it had answered") from error
        if kind == REFUSED:
            raise DonorFault(f"refused: {_printable(body.decode(errors='replace'))}")
        return body


@asynccontextmanager
async def inquire(p2p: P2P, donor: str, prefix: str, stall_s: float) -> AsyncIterator[Inquiry]:
    """Call a donor.

    Args:
        p2p: This process's connection to the network daemon, which must know a way to the donor.
        donor: Its peer id.
        prefix: The run's namespace.
        stall_s: How long each answer may take, and the call itself.

    Yields:
        The open stream; it is closed at the end of the block.

    Raises:
        DonorFault: The donor can't be reached.
    """
    try:
        async with asyncio.timeout(stall_s):
            _, reader, writer = await p2p.call_binary_stream_handler(
                PeerID.from_base58(donor), stream_name(prefix)
            )
    except TimeoutError as error:
        raise DonorFault(f"could not be reached within {stall_s:.3g} s") from error
    except (P2PDaemonError, OSError, EOFError, ValueError) as error:
        raise DonorFault(f"could not be reached: {_printable(str(error))}") from error
    try:
        yield Inquiry(reader, writer, stall_s)
    finally:
        writer.transport.abort()


def _check(got_tag: int, length: int, tag: int, size_bytes: int | None) -> None:
    if got_tag != tag:
        raise DonorFault(f"sent chunk {got_tag} where chunk {tag} was due")
    if size_bytes is None and length > MAX_PAGE_BYTES:
        raise DonorFault(f"sent {length} bytes of history where {MAX_PAGE_BYTES} are the limit")
    if size_bytes is not None and length != size_bytes:
        raise DonorFault(f"sent {length} bytes where {size_bytes} were due")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_MAX_CAUSE]
