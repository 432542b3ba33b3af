"""A record reaches all neighbours at once, and what was lost on the way is found."""

from __future__ import annotations

import time
from functools import partial

import pytest
from hivemind.dht import DHT, DHTNode

from paceline.network import replica
from tests.network.boards import (
    CREDITS,
    BoardPeer,
    boards,
    credit,
    fail_to_store,
    key_id,
    num_at_work,
    num_kept,
    until,
)

pytestmark = pytest.mark.live


def keeps(peer: BoardPeer) -> int:
    kept: int = peer.dht.run_coroutine(partial(num_kept, "credits"))
    return kept


def test_a_record_reaches_every_neighbour_without_a_search() -> None:
    with boards() as swarm:
        peers = [swarm.peer() for _ in range(7)]  # more than hivemind keeps replicas of
        peers[3].post(1)  # nobody reads, so nobody searches
        assert [keeps(peer) for peer in peers] == [1] * 7


def test_a_neighbour_that_misses_a_record_is_handed_it_again() -> None:
    with boards() as swarm:
        neighbour, author = swarm.peer(), swarm.peer()
        author.dht.run_coroutine(partial(fail_to_store, 2))
        author.post(1)
        until(lambda: keeps(neighbour) == 1)


def test_a_record_that_any_neighbour_has_is_found_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SEARCH_EVERY_S", float("inf"))
    monkeypatch.setattr(replica, "ASK_EVERY_S", 0.1)
    with boards() as swarm:
        keeper, reader, author = swarm.peer(), swarm.peer(), swarm.peer()
        reader.board.read(CREDITS)
        author.dht.run_coroutine(partial(fail_to_store, 10**9))
        author.post(1)
        assert not keeps(reader) and not keeps(keeper)
        until(lambda: reader.balances(reader.board) == {author.key.peer_id: 1})


def test_a_record_that_reached_nobody_here_is_found_by_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "ASK_EVERY_S", float("inf"))
    monkeypatch.setattr(replica, "SEARCH_EVERY_S", 0.1)
    with boards() as swarm:
        reader, author = swarm.peer(), swarm.peer()
        reader.board.read(CREDITS)
        author.dht.run_coroutine(partial(fail_to_store, 10**9))
        author.post(1)
        assert not keeps(reader)
        until(lambda: reader.balances(reader.board) == {author.key.peer_id: 1})
        assert keeps(reader) == 1


async def expiries(_: DHT, node: DHTNode) -> tuple[float, float]:
    """When a key is dropped as a whole, and when the last of its records ends."""
    entry = node.protocol.storage.get(key_id())
    return entry.expiration_time, entry.value.latest_expiration_time


def test_what_a_search_finds_is_kept_for_as_long_as_its_author_wants() -> None:
    with boards() as swarm:
        reader, author = swarm.peer(), swarm.peer()
        reader.post(1)
        author.dht.run_coroutine(partial(fail_to_store, 10**9))
        posted = author.view(ahead_s=100.0).publish(credit(author.key.peer_id, 2))
        author.board.flush()
        until(lambda: author.key.peer_id in reader.balances())
        assert reader.dht.run_coroutine(expiries) == (posted.record.expires_at,) * 2


async def keep_nonsense(_: DHT, node: DHTNode) -> None:
    node.protocol.storage.store_subkey(key_id(), "somebody", b"\xc1 is no msgpack", time.time() + 60)


def test_nonsense_in_a_nodes_storage_is_no_news_and_ends_no_look() -> None:
    with boards() as swarm:
        peer = swarm.peer()
        peer.dht.run_coroutine(keep_nonsense)
        peer.post(1)
        assert peer.view().read(CREDITS) != []


def test_only_the_first_look_at_a_kind_waits_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SEARCH_EVERY_S", 0.0)  # every look begins a search
    with boards() as swarm:
        reader, author = swarm.peer(wait_timeout=60), swarm.peer()
        author.post(1)
        assert reader.balances(reader.board) == {author.key.peer_id: 1}
        author.pause()
        assert reader.balances(reader.board) == {}
        assert reader.dht.run_coroutine(num_at_work) == 1  # it still waits for the one that stands still
        author.go_on()


def test_in_a_crowd_where_not_everybody_knows_everybody_a_record_is_found_all_the_same() -> None:
    with boards() as swarm:
        peers = [swarm.peer(bucket_size=2, num_replicas=2) for _ in range(6)]
        author = peers[2]
        author.post(1)
        for reader in peers:
            until(lambda reader=reader: author.key.peer_id in reader.balances())  # type: ignore[misc]
