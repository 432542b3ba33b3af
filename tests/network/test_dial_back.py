"""Claims about dialling back: whom a peer dials for others, and what an asker learns."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from paceline.core.errors import SeedsUnreachable
from paceline.network.dht import PeerDht
from paceline.network.dial_back import (
    AGAIN_S,
    MAX_MESSAGE_BYTES,
    DialBack,
    DialBackServer,
    DialledBack,
    framed,
    read_message,
)
from paceline.network.reachability import Reply, ask_to_dial_back, start_daemon

WORD = b"sixteen letters!"
HERE = "/ip4/127.0.0.1/tcp/40001"


async def ask(
    server: DialBackServer, *sent: bytes, address: str = HERE, peer: str = ""
) -> DialledBack | None:
    """Hand a server bytes as a stream from a peer at an address; None when it hangs up without an answer."""
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    info: Any = SimpleNamespace(addr=address, peer_id=peer or f"the peer at {address}")
    serving = asyncio.create_task(server.take(info, *await asyncio.open_connection(sock=far)))
    try:
        for piece in sent:
            writer.write(piece)
        return DialledBack.model_validate_json(await read_message(reader))
    except (OSError, EOFError):
        return None
    finally:
        writer.transport.abort()
        await serving


def question(port: int, word: bytes = WORD) -> bytes:
    return framed(DialBack(port=port, expects=word.hex()))


@asynccontextmanager
async def speaking(word: bytes, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """Listen on a port and say a word to whoever comes; yields the port and what callers sent."""
    heard: list[bytes] = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        heard.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(say, host, 0) as server:
        yield server.sockets[0].getsockname()[1], heard


def run(claim: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(claim(), 60))


def test_whoever_speaks_the_word_is_reached_and_is_sent_nothing() -> None:
    async def claim() -> None:
        async with speaking(WORD) as (port, heard):
            answer = await ask(DialBackServer(), question(port))
            assert answer is not None
            assert (answer.outcome, answer.host) == ("reached", "127.0.0.1")
            while not heard:
                await asyncio.sleep(0.01)
            assert heard == [b""]

    run(claim)


@pytest.mark.parametrize("word", [b"fifteen letters", b"other letters!!!", b""])
def test_a_dial_back_tells_nothing_of_what_it_heard(word: bytes) -> None:
    async def claim() -> None:
        async with speaking(word) as (port, _):
            answer = await ask(DialBackServer(dial_s=1.0), question(port))
            assert answer is not None
            assert answer.outcome == "other"
            assert word.hex() not in answer.model_dump_json() or not word
            assert set(DialledBack.model_fields) == {"outcome", "host", "clock_ms", "cause"}
            assert answer.cause == ""

    run(claim)


def test_a_closed_port_is_refused() -> None:
    async def claim() -> None:
        async with speaking(WORD) as (port, _):
            pass
        answer = await ask(DialBackServer(), question(port))
        assert answer is not None
        assert answer.outcome == "refused"

    run(claim)


def test_only_the_address_that_the_asker_is_connected_from_is_dialled() -> None:
    async def claim() -> None:
        async with speaking(WORD, "127.0.0.1") as (port, heard):
            answer = await ask(DialBackServer(), question(port), address="/ip4/127.0.0.2/tcp/4001")
            assert answer is not None
            assert (answer.outcome, answer.host) == ("refused", "127.0.0.2")
            assert heard == []
        assert set(DialBack.model_fields) == {"port", "expects"}

    run(claim)


def test_who_comes_over_a_relay_is_not_dialled() -> None:
    async def claim() -> None:
        relayed = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooW/p2p-circuit"
        async with speaking(WORD) as (port, heard):
            answer = await ask(DialBackServer(), question(port), address=relayed)
            assert answer is not None
            assert (answer.outcome, answer.host, heard) == ("declined", "", [])

    run(claim)


@pytest.mark.parametrize(
    ("address", "peer", "is_again"),
    [
        ("/ip6/2001:db8::1/tcp/1", "other", True),
        ("/ip6/2001:db8::beef:2/tcp/1", "other", True),  # the same holder's
        ("/ip6/2001:db8:0:1::1/tcp/1", "other", False),
        ("/ip4/127.0.0.2/tcp/1", "somebody", True),
        ("/ip4/127.0.0.2/tcp/1", "other", False),
    ],
)
def test_an_asker_is_not_dialled_again_under_another_name_or_address(
    address: str, peer: str, is_again: bool
) -> None:
    async def claim() -> None:
        server = DialBackServer(clock=lambda: 100.0, dial_s=0.5)
        await ask(server, question(40_000), address="/ip6/2001:db8::1/tcp/1", peer="somebody")
        answer = await ask(server, question(40_000), address=address, peer=peer)
        assert answer is not None
        assert (answer.outcome == "declined") == is_again

    run(claim)


@pytest.mark.parametrize(
    "mine",
    [
        [("somebody", f"/ip4/127.0.0.{number}/tcp/1") for number in range(2, 8)],
        [(f"identity {number}", "/ip4/127.0.0.2/tcp/1") for number in range(6)],
    ],
    ids=["from many addresses", "under many names"],
)
def test_one_asker_leaves_room_for_others(mine: list[tuple[str, str]]) -> None:
    async def claim() -> None:
        server = DialBackServer()
        waiting = [asyncio.create_task(ask(server, address=place, peer=peer)) for peer, place in mine]
        await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        async with speaking(WORD) as (port, _):
            answer = await ask(server, question(port))
        assert answer is not None
        assert answer.outcome == "reached"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(claim)


def test_an_address_is_not_dialled_again_before_its_time() -> None:
    async def claim() -> None:
        now = [100.0]
        server = DialBackServer(clock=lambda: now[0])
        async with speaking(WORD) as (port, _):
            asked = question(port)
            outcomes = []
            for later_s in (0.0, AGAIN_S - 0.1, 0.2):
                now[0] += later_s
                answer = await ask(server, asked)
                assert answer is not None
                outcomes.append(answer.outcome)
            assert outcomes == ["reached", "declined", "reached"]
            other = await ask(server, asked, address="/ip4/127.0.0.2/tcp/1")
            assert other is not None
            assert other.outcome == "refused"

    run(claim)


@pytest.mark.parametrize(
    "sent",
    [
        (MAX_MESSAGE_BYTES + 1).to_bytes(2, "big") + b"x" * 600,
        b"\x00\x02{}",
        b"\x00\x04\xff\xff\xff\xff",
        framed(DialledBack(outcome="reached", host="", clock_ms=0)),
        b'\x00\x1f{"port": 22, "expects": "00"}   ',
        b'\x00\x1f{"port": 9000, "expects": ""}   ',
    ],
)
def test_garbage_in_place_of_a_question_is_hung_up_on(sent: bytes) -> None:
    async def claim() -> None:
        server = DialBackServer()
        assert await ask(server, sent) is None
        async with speaking(WORD) as (port, _):
            assert await ask(server, question(port)) is not None

    run(claim)


def test_a_crowd_of_askers_is_hung_up_on() -> None:
    async def claim() -> None:
        server = DialBackServer(dial_s=30.0)
        async with speaking(WORD) as (port, _):
            places = [f"/ip4/127.0.0.{number}/tcp/1" for number in range(1, 8)]
            waiting = [asyncio.create_task(ask(server, address=place)) for place in places]
            done, pending = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert await done.pop() is None
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            assert await ask(server, question(port)) is not None

    run(claim)


# From here on with real network daemons.


def bound() -> socket.socket:
    listener = socket.socket()
    listener.bind(("0.0.0.0", 0))
    return listener


def test_a_peer_dials_a_free_port_and_a_running_node_back_and_tells_its_clock() -> None:
    with PeerDht() as peer, PeerDht([str(peer.get_visible_maddrs()[0])]) as other:
        seeds = [str(address) for address in peer.get_visible_maddrs()]
        listener = bound()
        (heard,) = ask_to_dial_back(seeds, [], listener.getsockname()[1], listener)
        assert heard.peer_id == peer.peer_id.to_base58()
        assert outcome(heard) == "reached"
        assert abs(heard.ahead_s) < 3
        port = int(str(other.get_visible_maddrs()[0]).split("/")[4])
        # The first has dialled this address just now: it is the other that says so of itself.
        replies = ask_to_dial_back(seeds, [other.peer_id.to_base58()], port, None)
        assert [outcome(reply) for reply in replies] == ["declined", "reached"]


def outcome(reply: Reply) -> str:
    assert reply.answer is not None, reply.cause
    return reply.answer.outcome


def test_who_does_not_dial_back_is_told_apart_from_who_is_not_there() -> None:
    with PeerDht() as seed, PeerDht([str(seed.get_visible_maddrs()[0])], client_mode=True) as client:
        seeds = [str(seed.get_visible_maddrs()[0])]
        stranger = "12D3KooWAGfPLRQoUTLPmkWPXjjPvNZRtAGLVDSTHu5jpFo6xqRa"
        listener = bound()
        asked = [client.peer_id.to_base58(), stranger]
        replies = ask_to_dial_back(seeds, asked, listener.getsockname()[1], listener)
        assert [reply.answer is not None for reply in replies] == [True, False, False]
        assert all(reply.cause for reply in replies[1:])


def test_seeds_that_do_not_answer_are_named() -> None:
    seed = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAGfPLRQoUTLPmkWPXjjPvNZRtAGLVDSTHu5jpFo6xqRa"
    with pytest.raises(SeedsUnreachable):
        ask_to_dial_back([seed], [], 4001, None)


def test_a_daemon_starts_on_loopback_and_is_gone_again() -> None:
    address = start_daemon()
    assert address.startswith("/ip4/127.0.0.1/tcp/")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.split("/")[4])), timeout=20)
