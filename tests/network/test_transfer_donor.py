"""The giving side under attack: floods, garbage, and clients that never ask or never read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest
from hivemind.p2p import P2P, PeerID

from paceline.core.digest import CHUNK_BYTES
from paceline.network.transfer.protocol import (
    ANSWER,
    DATA,
    REFUSED,
    REQUEST,
    ChunkRequest,
    HashesRequest,
    LinksRequest,
    pack_request,
    stream_name,
)
from tests.network.donor_program import PREFIX
from tests.network.donors import State, Swarm, swarm

pytestmark = pytest.mark.live
SMALL = 3 * CHUNK_BYTES // 4 + 25
PATIENCE_S = 20.0
_T = TypeVar("_T")
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def live_swarm() -> Iterator[Swarm]:
    with swarm() as started:
        yield started


@pytest.fixture
def peers(live_swarm: Swarm) -> Iterator[Swarm]:
    yield live_swarm
    live_swarm.stop()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path, SMALL)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "incoming" / "state.bin"


async def call(p2p: P2P, donor: str) -> Stream:
    _, reader, writer = await p2p.call_binary_stream_handler(PeerID.from_base58(donor), stream_name(PREFIX))
    return reader, writer


async def answer(stream: Stream) -> tuple[int, int, bytes]:
    async with asyncio.timeout(PATIENCE_S):
        kind, tag, length = ANSWER.unpack(await stream[0].readexactly(ANSWER.size))
        return kind, tag, await stream[0].readexactly(length)


async def everything(stream: Stream) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            return await stream[0].read()
        return b""


def raw(body: bytes) -> bytes:
    return REQUEST.pack(len(body)) + body


def on_stream(peers: Swarm, donor: str, work: Callable[[Stream], Awaitable[_T]]) -> _T:
    async def call_and_work() -> _T:
        stream = await call(peers.p2p, donor)
        try:
            return await work(stream)
        finally:
            stream[1].transport.abort()

    return peers.run(call_and_work())


NAME: dict[str, Any] = {"round_id": 1, "weights_digest": "ab" * 32}
GARBAGE = {
    "a giant length": b"\xff\xff" + b"x" * 1000,
    "an empty request": raw(b""),
    "no msgpack": raw(b"\xc1\xc1\xc1"),
    "a number": raw(msgpack.packb(7)),
    "deep nesting": raw(b"\x91" * 250),
    "deep tuples": raw(msgpack.packb(msgpack.ExtType(0x40, msgpack.packb(msgpack.ExtType(0x40, b"\x90"))))),
    "an unknown kind": raw(msgpack.packb({"type": "weights", "round_id": 1})),
    "an extra key": raw(msgpack.packb({"type": "hashes", **NAME, "path": "/etc/passwd"})),
    "a missing key": raw(msgpack.packb({"type": "chunk", **NAME})),
    "text for a number": raw(msgpack.packb({"type": "hashes", **NAME, "round_id": "1"})),
    "true for a number": raw(msgpack.packb({"type": "hashes", **NAME, "round_id": True})),
    "a negative round": raw(msgpack.packb({"type": "hashes", **NAME, "round_id": -1})),
    "a negative chunk": raw(msgpack.packb({"type": "chunk", **NAME, "index": -1})),
    "a digest that climbs": raw(
        msgpack.packb({"type": "hashes", **NAME, "weights_digest": "../" * 21 + "a"})
    ),
    "an empty digest": raw(msgpack.packb({"type": "hashes", **NAME, "weights_digest": ""})),
    "a digest and a newline": raw(
        msgpack.packb({"type": "hashes", **NAME, "weights_digest": "a" * 64 + "\n"})
    ),
    "too many links": raw(msgpack.packb({"type": "links", "after_round": 0, "limit": 65})),
    "a state that is not here": pack_request(ChunkRequest(**NAME, index=0)),
}


def test_garbage_is_refused_and_the_donor_lives(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state)
    beyond = {
        "a chunk beyond the end": pack_request(ChunkRequest(**state.name, index=state.num_chunks)),
        "another round's digest": pack_request(HashesRequest(**{**state.name, "round_id": 9})),
    }
    for name, garbage in (GARBAGE | beyond).items():

        async def send(stream: Stream, garbage: bytes = garbage) -> tuple[int, int, bytes]:
            stream[1].write(garbage)
            return await answer(stream)

        kind, _, cause = on_stream(peers, donor, send)
        assert (kind, bool(cause)) == (REFUSED, True), name
    peers.fetch_state([donor], state.want, into)
    assert into.read_bytes() == state.data


def test_a_page_of_history_fits_its_bounds_whatever_the_library_gives(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, num_links=64, link_bytes=60_000)

    async def ask(stream: Stream) -> tuple[int, int, bytes]:
        stream[1].write(pack_request(LinksRequest(after_round=0, limit=64)))
        return await answer(stream)

    kind, _, page = on_stream(peers, donor, ask)
    assert kind == DATA
    assert (1 << 20) - 61_000 < len(page) <= 1 << 20


def test_each_of_several_results_of_one_round_is_found_by_its_digest(
    peers: Swarm, tmp_path: Path, into: Path
) -> None:
    first, second = State(tmp_path, SMALL, attempt=0), State(tmp_path, SMALL, attempt=1)
    donor = peers.donor(first)
    for state in (first, second):
        peers.fetch_state([donor], state.want, into)
        assert into.read_bytes() == state.data

    async def ask_in_turn(stream: Stream) -> list[bytes]:
        chunks = []
        for state in (first, second, first):
            stream[1].write(pack_request(ChunkRequest(**state.name, index=0)))
            chunks.append((await answer(stream))[2])
        return chunks

    of_first, of_second = first.data[:CHUNK_BYTES], second.data[:CHUNK_BYTES]
    assert on_stream(peers, donor, ask_in_turn) == [of_first, of_second, of_first]


def test_a_client_that_never_asks_is_hung_up_on(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, limits={"idle_s": 0.3})
    for nothing in (b"", b"\x00"):

        async def wait(stream: Stream, nothing: bytes = nothing) -> bytes:
            stream[1].write(nothing)
            return await everything(stream)

        assert on_stream(peers, donor, wait) == b""


def test_a_client_that_never_reads_is_hung_up_on(peers: Swarm, tmp_path: Path) -> None:
    state = State(tmp_path, 20 * CHUNK_BYTES // 4)
    donor = peers.donor(state, limits={"stall_s": 0.5, "streams": 1})

    async def served(stream: Stream) -> bool:
        stream[1].write(pack_request(HashesRequest(**state.name)))
        return (await answer(stream))[0] == DATA

    async def ask_for_all() -> Stream:
        stream = await call(peers.p2p, donor)
        assert await served(stream)  # now it has the only place
        stream[1].transport.pause_reading()  # type: ignore[attr-defined]
        for index in range(state.num_chunks):
            stream[1].write(pack_request(ChunkRequest(**state.name, index=index)))
        return stream

    hog = peers.run(ask_for_all())
    assert not on_stream(peers, donor, served)
    # Its place is free again as soon as the donor has given up on it.
    deadline = time.monotonic() + PATIENCE_S
    while not on_stream(peers, donor, served):
        assert time.monotonic() < deadline
    hog[1].transport.abort()


def test_a_request_flood_takes_no_more_than_the_allowed_streams(
    peers: Swarm, tmp_path: Path, into: Path
) -> None:
    state = State(tmp_path, 20 * CHUNK_BYTES // 4)
    donor = peers.donor(state, limits={"streams_per_peer": 3, "streams": 5})

    async def flood() -> list[Stream]:
        request = pack_request(ChunkRequest(**state.name, index=0))
        streams = [await call(attacker, donor) for _ in range(100)]
        for reader, writer in streams:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.05):
                    while True:
                        writer.write(request * 1000)
                        await writer.drain()
            del reader
        return streams

    peers.fetch_state([donor], state.want, into)
    attacker = peers.run(P2P.create(initial_peers=peers.maddrs[donor], startup_timeout=60))
    try:
        before = peers.memory_bytes()
        streams = peers.run(flood())
        grown = peers.memory_bytes() - before
        into.unlink()
        peers.fetch_state([donor], state.want, into)  # others are served meanwhile
        assert into.read_bytes() == state.data
        for _, writer in streams:
            writer.transport.abort()
    finally:
        peers.run(attacker.shutdown())
    assert grown < 30 << 20


def test_whoever_comes_too_many_is_told_so(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, limits={"streams_per_peer": 1})

    async def call_twice() -> tuple[tuple[int, int, bytes], tuple[int, int, bytes]]:
        first = await call(peers.p2p, donor)
        first[1].write(pack_request(HashesRequest(**state.name)))
        served = await answer(first)
        second = await call(peers.p2p, donor)
        refused = await answer(second)
        for _, writer in (first, second):
            writer.transport.abort()
        return served, refused

    served, refused = peers.run(call_twice())
    assert served[0] == DATA
    assert refused == (REFUSED, 0, b"busy")


def test_a_state_deleted_while_it_is_served_still_arrives(peers: Swarm, state: State) -> None:
    donor = peers.donor(state)

    async def fetch(stream: Stream) -> list[bytes]:
        chunks = []
        for index in range(state.num_chunks):
            stream[1].write(pack_request(ChunkRequest(**state.name, index=index)))
            chunks.append((await answer(stream))[2])
            state.path.unlink(missing_ok=True)
        stream[1].write(pack_request(HashesRequest(**state.name)))
        assert (await answer(stream))[0] == DATA
        return chunks

    assert b"".join(on_stream(peers, donor, fetch)) == state.data


def test_a_truncated_state_is_refused_and_not_padded(peers: Swarm, state: State) -> None:
    donor = peers.donor(state)
    with state.path.open("r+b") as file:
        file.truncate(state.path.stat().st_size - 1)

    async def ask(stream: Stream) -> list[int]:
        kinds = []
        for index in (0, state.num_chunks - 1):
            stream[1].write(pack_request(ChunkRequest(**state.name, index=index)))
            kinds.append((await answer(stream))[0])
        return kinds

    assert on_stream(peers, donor, ask) == [DATA, REFUSED]


def test_a_state_that_was_replaced_is_hashed_anew(peers: Swarm, state: State) -> None:
    donor = peers.donor(state)

    async def ask(stream: Stream) -> bytes:
        stream[1].write(pack_request(HashesRequest(**state.name)))
        return (await answer(stream))[2]

    first = on_stream(peers, donor, ask)
    assert on_stream(peers, donor, ask) == first
    other = state.path.with_name("other")
    other.write_bytes(state.path.read_bytes()[:-1] + b"?")
    other.replace(state.path)
    second = on_stream(peers, donor, ask)
    assert second != first
    assert second[:-32] == first[:-32]


def test_a_donor_sends_no_faster_than_its_rate(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state, limits={"bytes_per_s": 8 * CHUNK_BYTES})
    outcome = peers.fetch_state([donor], state.want, into)
    assert outcome.seconds > len(state.data) / (8 * CHUNK_BYTES) - 0.3
