"""A process full of donors, honest ones and liars, each with a network daemon of its own.

Reads one JSON command per line and answers each with one line, until its input ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from hivemind.p2p import P2P

from paceline.core.chain import Link
from paceline.network.hardening import harden
from paceline.network.transfer import ServeLimits, StateFile, StateServer
from paceline.network.transfer.protocol import (
    ANSWER,
    DATA,
    REQUEST,
    ChunkRequest,
    Layout,
    stream_name,
    unpack_request,
)

PREFIX = "run-test"
OFFSET = 40


class Folder:
    """States in files `ROUND-DIGEST.bin`, something else in front; history that consists of its numbers."""

    def __init__(self, folder: Path, num_elements: int, num_links: int, link_bytes: int) -> None:
        self.folder = folder
        self.num_elements = num_elements
        self.num_links = num_links
        self.link_bytes = link_bytes

    def state(self, round_id: int, weights_digest: str) -> StateFile | None:
        path = self.folder / f"{round_id}-{weights_digest}.bin"
        return StateFile(path, OFFSET, self.num_elements) if path.exists() else None

    def links(self, after_round: int, limit: int) -> list[Link]:
        if self.num_links < 0:
            raise RuntimeError("a library with a fault of its own")
        rounds = range(after_round + 1, min(self.num_links, after_round + limit) + 1)
        return [Link(str(number).encode().ljust(self.link_bytes), (b"receipt",)) for number in rounds]


class Liar:
    """Serves the one state that is there by the same protocol, but answers chunks in its own way."""

    def __init__(self, folder: Path, num_elements: int, fault: str) -> None:
        self.layout = Layout(num_elements)
        (path,) = folder.glob("*.bin")
        self.data = path.read_bytes()[OFFSET:]
        self.asked: list[int] = []
        self.answer: Callable[[int, bytes], list[bytes] | None] = getattr(self, f"_{fault}")
        self.lies_about_hashes = fault == "wrong_hashes"

    async def add_p2p_handlers(self, p2p: P2P, *, namespace: str) -> None:
        await p2p.add_binary_stream_handler(stream_name(namespace), self._serve)

    async def _serve(self, _: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = REQUEST.unpack(await reader.readexactly(REQUEST.size))
                request = unpack_request(await reader.readexactly(length))
                if isinstance(request, ChunkRequest):
                    self.asked.append(request.index)
                    start, size = self.layout.span(request.index)
                    pieces = self.answer(request.index, self.data[start : start + size])
                    if pieces is None:
                        return
                    for piece in pieces:
                        writer.write(piece)
                else:
                    writer.write(_data(0, self._hashes()))
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    def _hashes(self) -> bytes:
        spans = [self.layout.span(index) for index in range(self.layout.num_chunks)]
        hashes = b"".join(hashlib.sha256(self.data[start : start + size]).digest() for start, size in spans)
        return bytes(len(hashes)) if self.lies_about_hashes else hashes

    def _honest(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk)]

    _wrong_hashes = _honest

    def _wrong_byte(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk[:-1] + bytes([chunk[-1] ^ 1]))]

    def _wrong_chunk(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index ^ 1, chunk)]

    def _stalls(self, index: int, chunk: bytes) -> list[bytes]:
        return []

    def _stalls_halfway(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk)[: len(chunk) // 2]] if len(self.asked) == 1 else []

    def _stalls_after_three(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk)] if len(self.asked) <= 3 else []

    def _too_many_chunks(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk)] * 2

    def _too_many_bytes(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk + b"\x00")]

    def _too_few_bytes(self, index: int, chunk: bytes) -> list[bytes]:
        return [_data(index, chunk[:-1])]

    def _giant(self, index: int, chunk: bytes) -> list[bytes]:
        return [ANSWER.pack(DATA, index, 2**32 - 1), chunk]

    def _junk(self, index: int, chunk: bytes) -> list[bytes]:
        return [b"\xff" * len(chunk)]

    def _hangs_up(self, index: int, chunk: bytes) -> None:
        return None


def _data(tag: int, body: bytes) -> bytes:
    return ANSWER.pack(DATA, tag, len(body)) + body


async def main() -> None:
    loop = asyncio.get_running_loop()
    running: dict[str, tuple[P2P, StateServer | Liar]] = {}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        match command.pop("do"):
            case "start":
                p2p, server = await _start(**command)
                peer_id = p2p.peer_id.to_base58()
                running[peer_id] = (p2p, server)
                maddrs = [str(maddr) for maddr in await p2p.get_visible_maddrs()]
                print(json.dumps([peer_id, maddrs]), flush=True)
            case "asked":
                liar = running[command["peer_id"]][1]
                assert isinstance(liar, Liar)
                print(json.dumps(liar.asked), flush=True)
            case "stop":
                await asyncio.gather(*(p2p.shutdown() for p2p, _ in running.values()))
                running.clear()
                print(json.dumps(None), flush=True)
    await asyncio.gather(*(p2p.shutdown() for p2p, _ in running.values()))


async def _start(
    contacts: list[str],
    folder: str,
    num_elements: int,
    fault: str | None,
    limits: dict[str, Any],
    history: dict[str, int],
) -> tuple[P2P, StateServer | Liar]:
    p2p = await P2P.create(initial_peers=contacts, startup_timeout=60)
    server: StateServer | Liar
    if fault is None:
        server = StateServer(Folder(Path(folder), num_elements, **history), ServeLimits(**limits))
    else:
        server = Liar(Path(folder), num_elements, fault)
    await server.add_p2p_handlers(p2p, namespace=PREFIX)
    return p2p, server


if __name__ == "__main__":
    harden()
    # As in the averager's process.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
