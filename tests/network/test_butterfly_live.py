"""The all-reduce between real peers on loopback: each a process tree with its own daemon."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from tests.network.reduce_swarm import Peer, agreed, begin, expected, order_for, reduce, swarm

pytestmark = pytest.mark.live

NUM_ELEMENTS = 100_003
PART_ELEMENTS = 1 << 12


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def peers(codec: str) -> Iterator[list[Peer]]:
    with swarm(4, num_elements=NUM_ELEMENTS, codec=codec, part_elements=PART_ELEMENTS) as started:
        yield started


def test_all_members_of_a_complete_reduce_hold_the_same_bits(peers: list[Peer], codec: str) -> None:
    for weights in [(1, 1, 1, 1), (5, 1, 2, 9), (0, 3, 1, 1), (7, 0, 0, 1), (2, 2, 0, 3)]:
        order = order_for(peers, weights)
        seeds = begin(peers, order)
        outcomes = [peer.hear() for peer in peers]
        assert agreed(outcomes), outcomes
        mean = expected(order, seeds, NUM_ELEMENTS, codec)
        assert outcomes[0]["sha"] == hashlib.sha256(mean.data).hexdigest()


def test_sixty_rounds_in_a_row_lose_nothing(peers: list[Peer]) -> None:
    outcomes = [reduce(peers) for _ in range(60)]
    assert [round_ for round_ in outcomes if not agreed(round_)] == []


def test_any_subset_of_the_swarm_can_be_the_roster(peers: list[Peer]) -> None:
    for roster in (peers[:2], peers[1:], peers[2:3]):
        assert agreed(reduce(roster))


def test_the_payload_is_counted(peers: list[Peer], codec: str) -> None:
    outcomes = reduce(peers)
    size = NUM_ELEMENTS * (4 if codec == "fp32" else 2)
    assert sum(o["bytes_out"] for o in outcomes) == sum(o["bytes_in"] for o in outcomes) == 2 * 3 * size


def test_an_order_without_weight_is_refused(peers: list[Peer]) -> None:
    begin(peers, order_for(peers, (0, 0, 0, 0)))
    outcomes = [peer.hear() for peer in peers]
    assert [outcome["cause"] for outcome in outcomes] == ["no member has weight"] * 4


def test_an_order_for_others_is_refused(peers: list[Peer]) -> None:
    begin(peers[:1], order_for(peers[1:]))
    assert peers[0].hear()["cause"] == "this peer is not in the roster"


def test_an_attempt_is_never_made_twice(peers: list[Peer]) -> None:
    order = order_for(peers)
    begin(peers, order)
    assert agreed([peer.hear() for peer in peers])
    begin(peers, order)
    assert {peer.hear()["cause"] for peer in peers} == {"this attempt was made before"}


def test_a_cancelled_reduce_ends_soon_for_everybody(peers: list[Peer]) -> None:
    order = order_for(peers)
    begin(peers[:3], order)  # the fourth never comes
    peers[0].tell("cancel")
    began = time.monotonic()
    outcomes = [peer.hear() for peer in peers[:3]]
    assert time.monotonic() - began < 10.0
    assert {outcome["blamed"] for outcome in outcomes} == {peers[0].peer_id}
    assert agreed(reduce(peers))


def test_a_call_runs_in_the_averagers_process(peers: list[Peer]) -> None:
    answer = peers[0].ask("call", function="echo", text="hello")
    assert answer["result"] == f"hello from {peers[0].pids[1]}"


def test_a_call_raises_what_the_function_raises_even_if_that_cannot_travel(peers: list[Peer]) -> None:
    assert peers[0].ask("call", function="fail")["error"] == "RuntimeError: Untransportable: one two"


def test_peers_stop_cleanly(codec: str) -> None:
    with swarm(1, num_elements=1, codec=codec) as (peer,):
        assert peer.ask("stop")["stopped"]
