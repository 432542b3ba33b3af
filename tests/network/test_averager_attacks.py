"""Members that turn bad in the middle of an all-reduce, and strangers with a raw hivemind client: the peers
live, the round ends in time, and the next one without the bad peer is complete. Real peers on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto.averaging_pb2 import (
    NO_CODE,
    PART_FOR_AVERAGING,
    PROTOCOL_VIOLATION,
    AveragingData,
    DownloadData,
    DownloadRequest,
    JoinRequest,
    MessageFromLeader,
)

from tests.network import attacks
from tests.network.reduce_program import PREFIX
from tests.network.reduce_swarm import Peer, agreed, begin, expected, order_for, reduce, swarm

pytestmark = pytest.mark.live
T = TypeVar("T")

NUM_ELEMENTS = 1_000_003
STALL_S = 4.0
SOON_S = 12.0
"""What a busy machine may add to any limit."""
LINE = f"{PREFIX}::Averager.rpc_aggregate_part"
ATTACKS = ["nan", "shape", "weight", "header", "die", "stop", "twice", "lose averager", "lose daemon"]


@pytest.fixture(scope="module")
def peers() -> Iterator[list[Peer]]:
    with swarm(3, ATTACKS, num_elements=NUM_ELEMENTS, codec="fp32", part_elements=1 << 12) as started:
        yield started


@pytest.fixture
def honest(peers: list[Peer]) -> list[Peer]:
    return peers[:3]


def _attacked(peers: list[Peer], attack: str) -> tuple[list[dict[str, Any]], str, float]:
    """Reduce with the peer of that attack; give the honest peers' outcomes, its id, and the time it took."""
    bad = peers[3 + ATTACKS.index(attack)]
    began = time.monotonic()
    begin([*peers[:3], bad], order_for([*peers[:3], bad], stall_s=STALL_S))
    outcomes = [peer.hear(300.0) for peer in peers[:3]]
    return outcomes, bad.peer_id, time.monotonic() - began


def _well(peers: list[Peer]) -> bool:
    return all(peer.ask("alive")["alive"] for peer in peers) and agreed(reduce(peers))


@pytest.mark.parametrize("attack", ["nan", "shape", "header", "die", "lose averager", "lose daemon"])
def test_a_member_that_turns_bad_ends_the_attempt_at_once_and_the_rest_goes_on(
    peers: list[Peer], honest: list[Peer], attack: str
) -> None:
    outcomes, bad, seconds = _attacked(peers, attack)
    assert all(not o["complete"] and o["cause"] and o["blamed"] == bad for o in outcomes), outcomes
    assert seconds < SOON_S
    assert _well(honest)


def test_a_member_that_stands_still_ends_the_attempt_after_the_stall_limit(
    peers: list[Peer], honest: list[Peer]
) -> None:
    outcomes, bad, seconds = _attacked(peers, "stop")
    assert all(not o["complete"] and o["cause"] and o["blamed"] == bad for o in outcomes), outcomes
    assert seconds < STALL_S + SOON_S
    assert _well(honest)
    peers[3 + ATTACKS.index("stop")].signal(signal.SIGCONT)


def test_a_dead_averager_process_raises_and_does_not_hang(peers: list[Peer]) -> None:
    victim = peers[3 + ATTACKS.index("lose averager")]
    while "error" not in (answer := victim.hear(300.0)):
        pass
    assert answer["error"] == "ProcessDied"
    begin([victim], order_for([victim]))
    assert victim.hear()["error"] == "ProcessDied"


def test_a_peer_that_lost_its_own_daemon_blames_itself(peers: list[Peer]) -> None:
    victim = peers[3 + ATTACKS.index("lose daemon")]
    outcome = victim.hear(300.0)
    assert not outcome["complete"]
    assert outcome["blamed"] == victim.peer_id


def test_a_weight_that_a_sender_states_changes_nothing(peers: list[Peer], honest: list[Peer]) -> None:
    bad = peers[3 + ATTACKS.index("weight")]
    order = order_for([*honest, bad])
    seeds = begin([*honest, bad], order)
    outcomes = [peer.hear(300.0) for peer in [*honest, bad]]
    assert agreed(outcomes), outcomes
    mean = expected(order, seeds, NUM_ELEMENTS, "fp32")
    assert outcomes[0]["sha"] == hashlib.sha256(mean.data).hexdigest()


def test_a_second_stream_is_refused_and_the_round_finishes(peers: list[Peer], honest: list[Peer]) -> None:
    assert agreed(reduce([*honest, peers[3 + ATTACKS.index("twice")]]))


# --- strangers


def _as_stranger(peers: list[Peer], act: Callable[[P2P], Awaitable[T]]) -> T:
    """Act with a daemon of one's own, an identity that nobody knows, and stock hivemind calls."""

    async def play() -> T:
        p2p = await P2P.create(initial_peers=peers[0].maddrs, startup_timeout=60)
        try:
            return await asyncio.wait_for(act(p2p), 60.0)
        finally:
            await p2p.shutdown()

    return asyncio.run(play())


def test_a_giant_length_header_is_hung_up_on(honest: list[Peer]) -> None:
    assert _as_stranger(honest, lambda p2p: attacks.giant_header(p2p, honest[0].peer_id, LINE)) == 0
    assert _well(honest)


@pytest.mark.parametrize("depth", [9, 195, 2000])
def test_a_nested_record_is_refused(honest: list[Peer], depth: int) -> None:
    answer = _as_stranger(honest, lambda p2p: attacks.nested_store(p2p, honest[0].peer_id, depth))
    assert "nested more than" in answer
    assert _well(honest)


def test_a_stranger_in_a_running_attempt_is_refused_and_the_round_finishes(honest: list[Peer]) -> None:
    order = order_for(honest)

    async def act(p2p: P2P) -> int:
        async def requests() -> Any:
            yield AveragingData(code=PART_FOR_AVERAGING, group_id=bytes.fromhex(order["key"]), weight=1e9)

        victim = PeerID.from_base58(honest[0].peer_id)
        async for message in await p2p.iterate_protobuf_handler(victim, LINE, requests(), AveragingData):
            if message.code != NO_CODE:
                return int(message.code)
        return -1

    begin(honest[:2], order)
    code = _as_stranger(honest, act)
    begin(honest[2:], order)
    assert agreed([peer.hear(300.0) for peer in honest])
    assert code == PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    ("method", "request_", "answer"),
    [
        ("rpc_join_group", JoinRequest(schema_hash=b"x", expiration=4e9), MessageFromLeader),
        ("rpc_download_state", DownloadRequest(), DownloadData),
    ],
)
def test_nothing_else_of_hiveminds_averager_is_offered(
    honest: list[Peer], method: str, request_: Any, answer: Any
) -> None:
    async def act(p2p: P2P) -> list[Any]:
        victim = PeerID.from_base58(honest[0].peer_id)
        name = LINE.replace("rpc_aggregate_part", method)
        return [part async for part in await p2p.iterate_protobuf_handler(victim, name, request_, answer)]

    with pytest.raises((P2PDaemonError, P2PHandlerError)):
        _as_stranger(honest, act)


def test_a_crowd_of_silent_strangers_does_not_delay_a_round(honest: list[Peer]) -> None:
    async def act(p2p: P2P) -> bool:
        victim = PeerID.from_base58(honest[0].peer_id)
        for _ in range(100):
            await p2p.call_binary_stream_handler(victim, LINE)
        return await asyncio.get_running_loop().run_in_executor(None, _well, honest)

    assert _as_stranger(honest, act)
