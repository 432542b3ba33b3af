"""Asking others to dial back (`paceline.network.dial_back`), from a network daemon of one's own.

The daemon is a client of the swarm for a few seconds, with an identity drawn for it: neither the node's own
port nor its key is needed, so that a node may be looked at before its first start and while it runs.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from hivemind.p2p import P2P, P2PDaemonError, PeerID
from hivemind.utils.multiaddr import Multiaddr

from paceline.core.errors import JoinError, SeedsUnreachable
from paceline.network.dht import STARTUP_TIMEOUT_S
from paceline.network.dial_back import (
    DIAL_S,
    GREETING,
    HANDLER,
    MAX_MESSAGE_BYTES,
    DialBack,
    DialledBack,
    framed,
    read_message,
)
from paceline.network.hardening import harden

MOST_ASKED = 4
"""So many are asked at most: seeds first."""
_CALL_S = 10.0
_WORD_BYTES = 16


@dataclass(frozen=True)
class Reply:
    """What came of asking one peer.

    Attributes:
        peer_id: Whom.
        answer: What it says; None when there was no answer.
        ahead_s: By how many seconds its clock is ahead of ours, less the way of its answer.
        cause: Why there was no answer.
    """

    peer_id: str
    answer: DialledBack | None
    ahead_s: float = 0.0
    cause: str = ""


def start_daemon(listen: Sequence[str] = ("/ip4/127.0.0.1/tcp/0",)) -> str:
    """Start a network daemon that knows nobody, and stop it again.

    Args:
        listen: Multiaddrs to listen on.

    Returns:
        One of its addresses.

    Raises:
        JoinError: It does not start.
    """

    async def start() -> str:
        async with _daemon((), listen) as p2p:
            return str((await p2p.get_visible_maddrs())[0])

    return asyncio.run(start())


def ask_to_dial_back(
    seeds: Sequence[str], peers: Sequence[str], port: int, listener: socket.socket | None
) -> list[Reply]:
    """Ask seeds and peers whether they can reach a port of this machine.

    Args:
        seeds: Multiaddrs to connect to; they are asked first.
        peers: Peer ids of others in the swarm.
        port: The TCP port under which this machine is to be reached.
        listener: A bound socket that others come to when they dial it; closed here. None when a node that
            runs already listens there.

    Returns:
        A reply of everybody who was asked.

    Raises:
        JoinError: No seed answered, or the daemon did not start.
    """
    return asyncio.run(_ask_all(seeds, peers, port, listener))


async def _ask_all(
    seeds: Sequence[str], peers: Sequence[str], port: int, listener: socket.socket | None
) -> list[Reply]:
    ids = dict.fromkeys([Multiaddr(seed)["p2p"] for seed in seeds] + list(peers))
    word = GREETING if listener is None else secrets.token_bytes(_WORD_BYTES)
    question = DialBack(port=port, expects=word.hex())
    async with _speaking(listener, word), _daemon(seeds, ("/ip4/127.0.0.1/tcp/0",)) as p2p:
        return list(await asyncio.gather(*(_ask(p2p, peer, question) for peer in [*ids][:MOST_ASKED])))


async def _ask(p2p: P2P, peer: str, question: DialBack) -> Reply:
    try:
        async with asyncio.timeout(_CALL_S):
            _, reader, writer = await p2p.call_binary_stream_handler(PeerID.from_base58(peer), HANDLER)
    except TimeoutError:
        return Reply(peer, None, cause=f"it could not be called within {_CALL_S:.0f} s")
    except (P2PDaemonError, OSError, EOFError, ValueError) as error:
        unknown = "protocols not supported" in str(error)
        return Reply(peer, None, cause="it does not dial back" if unknown else "it could not be called")
    try:
        async with asyncio.timeout(_CALL_S + DIAL_S):
            writer.write(framed(question))
            await writer.drain()
            answer = DialledBack.model_validate_json(await read_message(reader))
            return Reply(peer, answer, ahead_s=answer.clock_ms / 1000 - time.time())
    except (OSError, EOFError, ValueError):
        return Reply(peer, None, cause="it gave no answer")
    finally:
        writer.transport.abort()


@asynccontextmanager
async def _speaking(listener: socket.socket | None, word: bytes) -> AsyncIterator[None]:
    if listener is None:
        yield
        return

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(word)
            await writer.drain()
            async with asyncio.timeout(DIAL_S):
                await reader.read(MAX_MESSAGE_BYTES)  # until the other has heard it
        writer.transport.abort()

    async with await asyncio.start_server(say, sock=listener):
        yield


@asynccontextmanager
async def _daemon(seeds: Sequence[str], listen: Sequence[str]) -> AsyncIterator[P2P]:
    harden()
    began = time.monotonic()
    try:
        p2p = await P2P.create(
            initial_peers=list(seeds) or None,
            host_maddrs=list(listen),
            dht_mode="client",
            nat_port_map=False,
            startup_timeout=STARTUP_TIMEOUT_S,
        )
    except (P2PDaemonError, OSError, ValueError) as error:
        if seeds and "bootstrap" in str(error):
            raise SeedsUnreachable(list(seeds), time.monotonic() - began) from error
        raise JoinError(
            f"the network daemon (p2pd) does not start: {error}",
            "pip install --force-reinstall --no-deps hivemind==1.1.12",
        ) from error
    try:
        yield p2p
    finally:
        await p2p.shutdown()
