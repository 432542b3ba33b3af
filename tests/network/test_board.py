"""Records pass between real DHT nodes, in one direction of time only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from paceline.core.config import RunConfig
from paceline.core.errors import ProcessDied
from paceline.core.records import RunRecord
from paceline.core.wire import seal, unseal
from paceline.network.replica import TRIES
from paceline.network.validator import KEYS
from tests.network.boards import (
    CREDITS,
    RUN,
    BoardPeer,
    Boards,
    boards,
    credit,
    fail_to_store,
    num_at_work,
    num_kept,
    until,
)

pytestmark = pytest.mark.live
Three = tuple[BoardPeer, BoardPeer, BoardPeer]


@pytest.fixture(scope="module")
def swarm() -> Iterator[Boards]:
    with boards() as started:
        started.peer()
        yield started


@pytest.fixture(scope="module")
def _three(swarm: Boards) -> Three:
    return swarm.peer(), swarm.peer(), swarm.peer()


@pytest.fixture
def three(_three: Three) -> Three:
    """Peers with new keys and boards on nodes that all tests share."""
    return tuple(BoardPeer(peer.dht, peer.rejections) for peer in _three)  # type: ignore[return-value]


def sees(reader: BoardPeer, author: BoardPeer) -> bool:
    return author.key.peer_id in reader.balances()


def announcement(peer_id: str) -> RunRecord:
    return RunRecord(
        run_id=RUN, peer_id=peer_id, seq=0, expires_at=0.0, document=RunConfig(name="run").document()
    )


def test_a_published_record_is_seen_by_every_other_peer(three: Three) -> None:
    author, second, third = three
    posted = author.board.publish(credit(author.key.peer_id, 7))
    for reader in (second, third):
        until(partial(sees, reader, author))
        (seen,) = [p for p in reader.view().read(CREDITS) if p.record.peer_id == author.key.peer_id]
        assert seen == posted
        assert unseal(seen.sealed) == posted.record


def test_a_record_is_news_once(three: Three) -> None:
    author, reader, _ = three
    author.post(1)
    assert reader.balances(reader.board)[author.key.peer_id] == 1
    assert author.key.peer_id not in reader.balances(reader.board)
    author.post(2)
    assert reader.balances(reader.board)[author.key.peer_id] == 2


def test_a_record_of_ones_own_is_no_news(three: Three) -> None:
    author, _, _ = three
    author.post(1)
    assert author.key.peer_id not in author.balances(author.board)


def test_the_newer_of_two_records_wins_however_close_they_are(three: Three) -> None:
    author, reader, _ = three
    posted = [author.board.publish(credit(author.key.peer_id, balance)) for balance in range(20)]
    author.board.flush()
    stamps = [(p.record.seq, p.record.expires_at) for p in posted]
    assert stamps == sorted(set(stamps))
    assert len({expires_at for _, expires_at in stamps}) == 20
    until(lambda: reader.balances()[author.key.peer_id] == 19)


def test_a_record_never_goes_back_in_time(three: Three) -> None:
    author, reader, late = three
    author.post(1)
    newer = author.post(2).record
    assert reader.balances(reader.board)[author.key.peer_id] == 2
    # The DHT keeps what expires last: only the author itself can put something older in its place.
    older = credit(author.key.peer_id, 1, seq=newer.seq - 1, expires_at=newer.expires_at + 5.0)
    assert author.dht.store(
        KEYS["credits"], seal(older, author.key), older.expires_at, subkey=author.key.peer_id
    )
    assert late.balances()[author.key.peer_id] == 1
    before = reader.rejections.by_reason()["stale"]
    assert author.key.peer_id not in reader.balances(reader.board)
    assert reader.rejections.by_reason()["stale"] == before + 1


def test_a_record_of_another_run_is_dropped(three: Three) -> None:
    author, reader, _ = three
    author.post(1, run_id="other-87654321")
    before = reader.rejections.by_reason()["run"]
    assert author.key.peer_id not in reader.balances(reader.board)
    assert reader.rejections.by_reason()["run"] > before
    # Who looks for a run reads those of any.
    assert reader.balances(reader.view(run_id=None))[author.key.peer_id] == 1
    author.post(2)
    assert reader.balances(reader.board)[author.key.peer_id] == 2


def test_what_is_dropped_is_counted_once_however_often_it_is_read(three: Three) -> None:
    author, reader, _ = three
    author.post(1, run_id="other-87654321")
    reader.board.read(CREDITS)
    before = reader.rejections.by_reason()
    for _ in range(5):
        reader.board.read(CREDITS)
    assert reader.rejections.by_reason() == before
    author.post(2, run_id="other-87654321")
    reader.board.read(CREDITS)
    assert reader.rejections.by_reason()["run"] == before["run"] + 1


def test_a_record_of_another_run_is_read_once_and_not_again_with_every_look(three: Three) -> None:
    author, reader, _ = three
    reader.board.read(CREDITS)
    author.post(1, run_id="other-87654321")
    reader.board.read(CREDITS)
    read_to = reader.board._read_to["credits"]
    author.post(2)
    assert reader.balances(reader.board)[author.key.peer_id] == 2
    assert reader.board._read_to["credits"] > read_to


def test_a_peer_whose_clock_was_set_back_still_replaces_its_own_records(three: Three) -> None:
    author, reader, _ = three
    ahead = author.view(ahead_s=100.0)
    ahead.publish(credit(author.key.peer_id, 1))
    ahead.flush()
    assert reader.balances(reader.board)[author.key.peer_id] == 1
    author.board.read(CREDITS)  # as a pacer does before it first speaks
    author.post(2)
    assert reader.balances(reader.board)[author.key.peer_id] == 2


def test_a_flushed_record_is_there_at_the_first_look(three: Three) -> None:
    author, reader, _ = three
    for balance in range(10):
        author.board.publish(credit(author.key.peer_id, balance))
        author.board.flush()
        assert reader.balances()[author.key.peer_id] == balance


def test_reading_an_unreachable_board_returns_nothing_and_raises_nothing() -> None:
    with boards() as swarm:
        left, other = swarm.peer(), swarm.peer()
        other.post(1)
        assert left.balances(left.board) == {other.key.peer_id: 1}
        other.kill()
        for _ in range(3):
            assert left.board.read() == []
        assert left.post(2).record == left.board._mine["credits"].record


def test_a_board_whose_node_is_dead_raises_and_does_not_hang() -> None:
    with boards() as swarm:
        peer = swarm.peer()
        peer.post(1)
        peer.kill()
        began = time.monotonic()
        with pytest.raises(ProcessDied):
            peer.board.read()
        with pytest.raises(ProcessDied):
            peer.board.publish(credit(peer.key.peer_id, 2))
        peer.board.flush(0.1)
        assert time.monotonic() - began < 15


def test_a_read_that_is_under_way_when_the_node_dies_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.network.board.READ_TIMEOUT_S", 2.0)
    with boards() as swarm:
        peer = swarm.peer()
        peer.pause()  # it takes no question, but neither is it dead
        assert peer.board.read() == []
        peer.kill()
        with pytest.raises(ProcessDied):
            peer.board.read()


def test_a_search_that_is_held_up_ends_with_what_this_peers_own_node_keeps() -> None:
    with boards() as swarm:
        reader, author = swarm.peer(wait_timeout=60), swarm.peer()
        author.post(1)
        author.pause()
        began = time.monotonic()
        assert reader.balances(reader.board) == {author.key.peer_id: 1}
        assert 3 < time.monotonic() - began < 9
        author.go_on()


def test_refreshing_hands_lasting_records_out_once_more() -> None:
    with boards() as swarm:
        neighbour, author = swarm.peer(), swarm.peer()
        author.dht.run_coroutine(partial(fail_to_store, TRIES))
        author.board.publish(announcement(author.key.peer_id))
        author.board.flush()
        assert not neighbour.dht.run_coroutine(partial(num_kept, "run"))
        until(lambda: not author.dht.run_coroutine(num_at_work))  # it has given up
        assert not neighbour.dht.run_coroutine(partial(num_kept, "run"))
        author.board.refresh()
        until(lambda: neighbour.dht.run_coroutine(partial(num_kept, "run")) == 1)
