"""Nodes that lost each other, and how they meet again."""

from __future__ import annotations

import pytest
from hivemind.dht import DHT, DHTNode
from hivemind.p2p import PeerID
from hivemind.utils import get_dht_time

from paceline.network.dht import PeerDht
from paceline.network.reunion import FORGET_S, HANG_UP_S, REMEMBERED, Acquaintances
from tests.network.reduce_swarm import until


def peer(number: int) -> PeerID:
    return PeerID(b"\x12\x20" + number.to_bytes(32, "big"))


async def forget_everybody(_dht: DHT, node: DHTNode) -> None:
    # What hivemind does with each neighbour that does not answer one call.
    for node_id in list(node.protocol.routing_table.uid_to_peer_id):
        del node.protocol.routing_table[node_id]


async def neighbours(_dht: DHT, node: DHTNode) -> int:
    return len(node.protocol.routing_table.uid_to_peer_id)


@pytest.mark.live
def test_nodes_that_lost_each_other_meet_again() -> None:
    with PeerDht() as first, PeerDht([str(first.get_visible_maddrs()[0])]) as second:
        until(lambda: first.run_coroutine(neighbours) == second.run_coroutine(neighbours) == 1)
        for dht in (first, second):
            dht.run_coroutine(forget_everybody)
        until(lambda: first.run_coroutine(neighbours) == second.run_coroutine(neighbours) == 1)
        first.store("greeting", "hello", get_dht_time() + 60)
        until(lambda: second.get("greeting", latest=True) is not None)


def test_whoever_was_met_is_missing_once_it_is_not_a_neighbour_any_more() -> None:
    met = Acquaintances(())
    assert met.missing([peer(1), peer(2)], now=0.0) == []
    assert met.missing([peer(2)], now=1.0) == [peer(1)]
    assert met.missing([peer(1), peer(2)], now=2.0) == []
    assert set(met.missing([], now=3.0)) == {peer(1), peer(2)}


def test_a_seed_is_never_forgotten() -> None:
    met = Acquaintances([peer(1)])
    assert met.missing([peer(2)], now=0.0) == [peer(1)]
    assert met.missing([], now=2 * FORGET_S) == [peer(1)]


def test_a_crowd_of_strangers_is_not_remembered() -> None:
    met = Acquaintances([peer(0)])
    for number in range(1, 10 * REMEMBERED):
        met.missing([peer(number)], now=float(number))
    missing = met.missing([], now=10.0 * REMEMBERED)
    assert missing[0] == peer(0)
    assert len(missing) == 1 + REMEMBERED


def test_who_stays_silent_is_dialled_anew_and_then_given_time() -> None:
    met = Acquaintances(())
    met.missing([peer(1)], now=0.0)
    for now in (1.0, HANG_UP_S):
        assert met.missing([], now) == [peer(1)]
        assert not met.should_hang_up(peer(1), now)
    assert met.should_hang_up(peer(1), now=1.0 + HANG_UP_S)
    assert met.missing([], now=3.0 + 2 * HANG_UP_S) == [peer(1)]
    assert not met.should_hang_up(peer(1), now=3.0 + 2 * HANG_UP_S)


def test_who_was_here_in_between_is_given_patience_anew() -> None:
    met = Acquaintances(())
    for here, now in (([peer(1)], 0.0), ([], 1.0), ([peer(1)], 2.0), ([], 5.0 + HANG_UP_S)):
        met.missing(here, now)
    assert not met.should_hang_up(peer(1), now=5.0 + HANG_UP_S)
