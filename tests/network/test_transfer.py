"""Fetching state and history from donors that lie, stall, and die."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paceline.core.digest import CHUNK_BYTES
from paceline.core.errors import TransferFailed
from paceline.core.nicknames import named
from paceline.core.signing import SigningKey
from paceline.network.transfer import HistoryWant, TransferLimits
from tests.network.donors import QUICK, State, Swarm, swarm

pytestmark = pytest.mark.live
SMALL = 3 * CHUNK_BYTES // 4 + 25  # four chunks of anchor, four of momentum, the last of each tiny
NOBODY = SigningKey.from_seed(bytes(32)).peer_id


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


def test_a_state_arrives_bit_for_bit(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state)
    outcome = peers.fetch_state([donor], state.want, into)
    assert into.read_bytes() == state.data
    assert outcome.size_bytes == outcome.fetched_bytes == len(state.data)
    assert outcome.donors == {donor: state.num_chunks}
    assert outcome.dropped == {}


@pytest.mark.parametrize("num_elements", [1, CHUNK_BYTES // 4, CHUNK_BYTES // 4 + 1])
def test_a_state_of_any_size_arrives(peers: Swarm, tmp_path: Path, into: Path, num_elements: int) -> None:
    state = State(tmp_path, num_elements)
    peers.fetch_state([peers.donor(state)], state.want, into)
    assert into.read_bytes() == state.data


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("wrong_byte", "wrong bytes in chunk"),
        ("wrong_chunk", "where chunk"),
        ("wrong_hashes", "do not match the commit's digests"),
        ("stalls", "kept its chunks waiting"),
        ("stalls_halfway", "kept its chunks waiting"),
        ("too_many_chunks", "where chunk"),
        ("too_many_bytes", "bytes where"),
        ("too_few_bytes", "bytes where"),
        ("giant", "4294967295 bytes where"),
        ("junk", "no answer"),
        ("hangs_up", "closed the stream"),
    ],
)
def test_a_donor_that_lies_stalls_or_sends_too_much_too_little_or_nothing_is_dropped_and_named(
    peers: Swarm, state: State, into: Path, fault: str, complaint: str
) -> None:
    # Slow enough that the liar is asked, too.
    honest = peers.donor(state, limits={"bytes_per_s": 8 * CHUNK_BYTES})
    liar = peers.donor(state, fault)
    outcome = peers.fetch_state([liar, honest], state.want, into)
    assert into.read_bytes() == state.data
    assert complaint in outcome.dropped[liar]
    assert list(outcome.dropped) == [liar]


def test_a_chunk_that_a_donor_owes_is_asked_elsewhere(peers: Swarm, state: State, into: Path) -> None:
    silent, honest = peers.donor(state, "stalls"), peers.donor(state, "honest")
    outcome = peers.fetch_state([silent, honest], state.want, into)
    owed = set(peers.asked(silent))
    assert owed
    assert owed <= set(peers.asked(honest))
    assert outcome.donors == {honest: state.num_chunks}


def test_nothing_that_does_not_match_the_digests_is_written(peers: Swarm, state: State, into: Path) -> None:
    liars = [peers.donor(state, "wrong_hashes"), peers.donor(state, "wrong_byte")]
    with pytest.raises(TransferFailed):
        peers.fetch_state(liars, state.want, into)
    assert into.read_bytes() == bytes(len(state.data))
    unread = peers.donor(state, "honest")  # sends what it has, whatever it is asked for
    for mistaken in (
        replace(state.want, weights_digest=state.want.momentum_digest),
        replace(state.want, momentum_digest=state.want.weights_digest),
    ):
        with pytest.raises(TransferFailed, match="do not match the commit's digests"):
            peers.fetch_state([unread], mistaken, into)
    assert into.read_bytes() == bytes(len(state.data))


def test_a_failure_names_what_was_wrong_with_each_donor(
    peers: Swarm, state: State, into: Path, tmp_path: Path
) -> None:
    liar, silent = peers.donor(state, "wrong_byte"), peers.donor(state, "stalls")
    ignorant, swamped = peers.donor(state), peers.donor(state, limits={"streams": 0})
    wanted = replace(state.want, round_id=2)
    with pytest.raises(TransferFailed) as caught:
        peers.fetch_state([liar, silent, ignorant, swamped, NOBODY], wanted, into)
    for donor, cause in [
        (liar, "sent wrong bytes"),
        (silent, "stalled for 2 s"),
        (ignorant, "refused: this state of round 2 is not here"),
        (swamped, "refused: busy"),
        (NOBODY, "could not be reached"),
    ]:
        assert f"{named(donor)} {cause}" in caught.value.cause
    assert caught.value.cause.startswith("the state of round 2 (0 of 8 chunks are here)")
    assert caught.value.remedy


def test_a_transfer_without_donors_fails_at_once(peers: Swarm, state: State, into: Path) -> None:
    own = peers.p2p.peer_id.to_base58()
    with pytest.raises(TransferFailed, match="no other peer is known"):
        peers.fetch_state([own], state.want, into)
    with pytest.raises(TransferFailed, match="no other peer is known"):
        peers.fetch_history([], HistoryWant(after_round=0))


def test_a_state_whose_digest_is_none_can_not_be_fetched(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state)
    with pytest.raises(TransferFailed, match="'' is no digest"):
        peers.fetch_state([donor], replace(state.want, weights_digest=""), into)


def test_a_transfer_ends_when_its_time_is_over(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state, "stalls")
    with pytest.raises(TransferFailed, match=r"it took longer than 0\.5 s"):
        peers.fetch_state([donor], state.want, into, replace(QUICK, total_s=0.5))


def test_a_transfer_that_was_interrupted_asks_only_for_what_is_missing(
    peers: Swarm, state: State, into: Path
) -> None:
    first = peers.donor(state, "stalls_after_three")
    with pytest.raises(TransferFailed, match=r"3 of 8 chunks are here.*stalled for 2 s"):
        peers.fetch_state([first], state.want, into)

    second = peers.donor(state, "honest")
    outcome = peers.fetch_state([second], state.want, into)
    assert into.read_bytes() == state.data
    assert peers.asked(second) == list(range(3, 8))
    assert outcome.donors == {second: 5}
    assert outcome.fetched_bytes == len(state.data) - 3 * CHUNK_BYTES

    third = peers.donor(state, "honest")
    assert peers.fetch_state([third], state.want, into).fetched_bytes == 0
    assert peers.asked(third) == []


def test_a_state_that_differs_in_one_byte_is_repaired_by_one_chunk(
    peers: Swarm, state: State, into: Path
) -> None:
    into.parent.mkdir()
    into.write_bytes(state.data[:-1] + bytes([state.data[-1] ^ 1]) + b"and more")
    donor = peers.donor(state, "honest")
    peers.fetch_state([donor], state.want, into)
    assert into.read_bytes() == state.data
    assert peers.asked(donor) == [state.num_chunks - 1]


def test_several_donors_share_the_load(peers: Swarm, tmp_path: Path, into: Path) -> None:
    state = State(tmp_path, 10 * CHUNK_BYTES // 4)
    donors = [peers.donor(state, limits={"bytes_per_s": 4 * CHUNK_BYTES}) for _ in range(3)]
    outcome = peers.fetch_state(donors, state.want, into)
    assert into.read_bytes() == state.data
    assert sum(outcome.donors.values()) == state.num_chunks == 20
    assert min(outcome.donors[donor] for donor in donors) >= 3


def test_a_slow_donor_does_not_hold_up_the_others(peers: Swarm, state: State, into: Path) -> None:
    slow = peers.donor(state, limits={"bytes_per_s": CHUNK_BYTES / 6})
    quick = peers.donor(state, limits={"bytes_per_s": 20 * CHUNK_BYTES})
    outcome = peers.fetch_state([quick, slow], state.want, into, TransferLimits(stall_s=8.0, total_s=60.0))
    assert into.read_bytes() == state.data
    assert outcome.seconds < 12  # alone, it would take six seconds for each chunk that it was asked for


def test_donors_in_reserve_are_asked_when_one_is_dropped(peers: Swarm, state: State, into: Path) -> None:
    silent, good, spare = (peers.donor(state, fault) for fault in ("stalls", "honest", "honest"))
    outcome = peers.fetch_state([silent, good, spare], state.want, into, replace(QUICK, donors=1))
    assert outcome.dropped == {silent: "stalled for 2 s"}
    assert outcome.donors == {good: state.num_chunks}
    assert peers.asked(spare) == []


def test_a_fetcher_takes_no_faster_than_its_rate(peers: Swarm, state: State, into: Path) -> None:
    outcome = peers.fetch_state(
        [peers.donor(state)], state.want, into, replace(QUICK, bytes_per_s=8 * CHUNK_BYTES)
    )
    assert outcome.seconds > len(state.data) / (8 * CHUNK_BYTES) - 0.3


def test_a_place_that_cannot_be_written_is_named_and_no_donor_blamed(
    peers: Swarm, state: State, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransferFailed, match="can't be written") as caught:
        peers.fetch_state([peers.donor(state)], state.want, tmp_path / "file" / "state.bin")
    assert "another state_dir" in caught.value.remedy


def test_what_travels_between_processes_can_be_pickled(peers: Swarm, state: State, into: Path) -> None:
    donor = peers.donor(state, num_links=2)
    history = HistoryWant(after_round=0)
    with pytest.raises(TransferFailed) as caught:
        peers.fetch_state([NOBODY], state.want, into)
    failure = pickle.loads(pickle.dumps(caught.value))
    assert (failure.cause, failure.remedy) == (caught.value.cause, caught.value.remedy)
    for thing in (
        state.want,
        QUICK,
        history,
        peers.fetch_history([donor], history),
        peers.fetch_state([donor], state.want, into),
    ):
        assert pickle.loads(pickle.dumps(thing)) == thing


def test_history_arrives_in_order_from_the_round_asked_for(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, num_links=200)
    fetched = peers.fetch_history([donor], HistoryWant(after_round=7))
    assert [int(link.commit) for link in fetched.links] == list(range(8, 201))
    assert fetched.links[0].receipts == (b"receipt",)
    assert (fetched.donor, fetched.dropped) == (donor, {})


def test_history_is_bounded_in_number_and_size(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, num_links=1000, link_bytes=4000)
    counted = peers.fetch_history([donor], HistoryWant(after_round=0, max_links=100))
    assert [int(link.commit) for link in counted.links] == list(range(1, 101))
    weighed = peers.fetch_history([donor], HistoryWant(after_round=0, max_bytes=2 << 20))
    assert (1 << 20) - 64 * 4100 < sum(len(link.commit) for link in weighed.links) <= 2 << 20


def test_a_donor_without_an_answer_is_passed_over(peers: Swarm, state: State) -> None:
    broken, empty = peers.donor(state, num_links=-1), peers.donor(state)
    liar, good = peers.donor(state, "junk"), peers.donor(state, num_links=70)
    fetched = peers.fetch_history([broken, empty, liar, NOBODY, good], HistoryWant(after_round=66))
    assert fetched.donor == good
    assert [int(link.commit) for link in fetched.links] == list(range(67, 71))
    assert list(fetched.dropped) == [broken, liar, NOBODY]
    assert fetched.dropped[broken] == "refused: the donor has a fault of its own"
    assert fetched.dropped[liar].startswith("sent a malformed page of history")
    assert fetched.dropped[NOBODY].startswith("could not be reached")


def test_nobody_having_more_history_is_no_failure(peers: Swarm, state: State) -> None:
    donor = peers.donor(state, num_links=5)
    fetched = peers.fetch_history([NOBODY, donor], HistoryWant(after_round=5))
    assert (fetched.links, fetched.donor, list(fetched.dropped)) == ((), "", [NOBODY])
    with pytest.raises(TransferFailed, match="the history after round 5 could not be fetched"):
        peers.fetch_history([NOBODY], HistoryWant(after_round=5))
