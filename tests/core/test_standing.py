"""What a peer keeps of what it hears: this round and the next, and never without bound."""

from __future__ import annotations

import pytest

from paceline.core.records import Ballot, PeerRecord, Phase, RoundPlan, RoundReceipt, Vote
from paceline.core.standing import Standing
from tests.core.history import commit_of, genesis_of, next_state, peers, receipt_of, run_of

STRANGER, *MEMBERS = peers(5)
RUN = run_of(MEMBERS)
GENESIS = genesis_of(RUN)
FIRST = next_state(RUN, GENESIS, MEMBERS)
SECOND = next_state(RUN, FIRST, MEMBERS)
ME, OTHER = MEMBERS[0].peer_id, MEMBERS[1].peer_id


@pytest.fixture
def standing() -> Standing:
    return Standing(RUN, ME, GENESIS, 0.0)


def receipt(round_id: int, term: int = 1, attempt: int = 0) -> RoundReceipt:
    commit = commit_of(FIRST, MEMBERS[0], ballot_term=term, ballot_attempt=attempt)
    return receipt_of(commit, MEMBERS[1], round_id=round_id)


def plan(round_id: int, term: int = 1, author: str = OTHER) -> RoundPlan:
    content = {"run_id": RUN.run_id, "peer_id": author, "seq": term, "expires_at": 1e9, "round_id": round_id}
    content |= {"term": term, "attempt": 0, "prev_digest": GENESIS.digest(), "avg_loss": 1.0}
    return RoundPlan.model_validate({**content, "roster": (OTHER,), "samples": (1,)})


def heartbeat(author: str, vote: Vote | None = None) -> PeerRecord:
    content = {"run_id": RUN.run_id, "peer_id": author, "seq": 1, "expires_at": 1e9, "round_id": 1}
    content |= {"head_digest": "", "phase": Phase.TRAIN, "inner_step": 0, "samples": 0, "samples_per_s": 0.0}
    return PeerRecord.model_validate({**content, "loss": 0.0, "term": 0, "coordinator": "", "vote": vote})


def test_receipts_of_the_next_round_are_kept_until_this_peer_gets_there(standing: Standing) -> None:
    # The ballot is the same in both rounds: the one must not stand in the way of the other.
    standing.notice(receipt(1), b"one", 0.0)
    standing.notice(receipt(2), b"two", 0.0)
    assert standing.receipts_of(Ballot(1, 0)) == {OTHER: receipt(1)}
    standing.move_to(FIRST, 1.0)
    assert standing.receipts_of(Ballot(1, 0)) == {OTHER: receipt(2)}
    assert list(standing.receipts.values()) == [(receipt(2), b"two")]


@pytest.mark.parametrize("round_id", [0, 3, 4, 10**9])
def test_receipts_and_plans_of_earlier_rounds_and_of_those_further_ahead_are_dropped(
    standing: Standing, round_id: int
) -> None:
    standing.notice(receipt(round_id), b"", 0.0)
    standing.notice(plan(round_id), b"", 0.0)
    assert not standing.receipts and not standing.plans and not standing.orders


def test_the_sealed_backing_is_that_of_this_round_and_this_coordinator(standing: Standing) -> None:
    commit = commit_of(FIRST, MEMBERS[0])
    for key in MEMBERS:
        standing.notice(receipt_of(commit, key), key.peer_id.encode(), 0.0)
        standing.notice(receipt_of(commit, key, round_id=2), b"of the next", 0.0)
    assert standing.sealed_backing(commit) == tuple(sorted(key.peer_id.encode() for key in MEMBERS))
    assert standing.sealed_backing(commit_of(FIRST, MEMBERS[1])) == ()


@pytest.mark.parametrize("round_id", [0, 1, 2, 3, 10**9])
def test_a_flood_of_one_author_fills_no_memory(standing: Standing, round_id: int) -> None:
    for term in range(500):
        standing.notice(receipt(round_id, term), b"x" * 300, 0.0)
        standing.notice(plan(round_id, term), b"", 0.0)
        state = FIRST.model_copy(update={"round_id": round_id, "term": term})
        standing.notice(commit_of(state, MEMBERS[1]), b"", 0.0)
    assert len(standing.receipts) <= 64 and len(standing.plans) <= 64
    assert len(standing.orders) <= 1 and len(standing.commits) <= 1
    if 0 <= round_id - 1 <= 1:  # the latest is there
        assert standing.orders[OTHER].term == 499 and (OTHER, round_id, Ballot(499, 0)) in standing.receipts
    standing.move_to(SECOND, 1.0)
    standing.move_to(SECOND.model_copy(update={"round_id": 10**9 + 1}), 2.0)
    assert not (standing.receipts or standing.plans or standing.orders or standing.commits)


def test_a_flood_of_plans_drops_none_that_somebody_voted_for(standing: Standing) -> None:
    wanted = plan(1, term=1)
    digests = {"weights_digest": "0a" * 32, "momentum_digest": "0b" * 32}
    vote = Vote(round_id=1, term=1, attempt=0, plan_digest=wanted.digest(), **digests)
    standing.notice(wanted, b"", 0.0)
    standing.notice(heartbeat(STRANGER.peer_id, vote), b"", 0.0)
    for term in range(2, 300):
        standing.notice(plan(1, term), b"", 0.0)
    assert standing.plans[wanted.digest()] == wanted


def test_peers_long_gone_are_forgotten_unless_they_are_electors(standing: Standing) -> None:
    for peer in (ME, OTHER, STRANGER.peer_id):
        standing.notice(heartbeat(peer), b"", 0.0)
    standing.move_to(FIRST, RUN.quorum.departure_s - 1)
    assert set(standing.peers) == {ME, OTHER, STRANGER.peer_id}
    standing.move_to(SECOND, RUN.quorum.departure_s)
    assert set(standing.peers) == {ME, OTHER}


def test_records_of_another_run_leave_no_trace(standing: Standing) -> None:
    for record in (receipt(1), plan(1), heartbeat(OTHER), commit_of(FIRST, MEMBERS[1])):
        standing.notice(record.model_copy(update={"run_id": "another"}), b"", 0.0)
    assert standing == Standing(RUN, ME, GENESIS, 0.0)


def test_what_was_worked_out_before_a_heartbeat_is_worked_out_again(standing: Standing) -> None:
    said = heartbeat(OTHER).model_copy(update={"head_digest": GENESIS.digest(), "seq": 1})
    assert not standing.live(1.0) and not standing.in_sync(1.0) and not standing.followers(1, ME)
    standing.notice(said, b"", 1.0)
    assert set(standing.live(1.0)) == set(standing.in_sync(1.0)) == {OTHER}
    later = {"seq": 2, "round_id": 2, "term": 1, "coordinator": ME}
    standing.notice(said.model_copy(update=later), b"", 1.0)
    assert set(standing.ahead(1.0)) == {OTHER} and not standing.in_sync(1.0)
    standing.move_to(FIRST, 1.0)
    assert not standing.ahead(1.0) and set(standing.followers(1, ME)) == {OTHER}
    assert not standing.live(1.0 + RUN.pace.lease_s)


def test_departures_are_noticed_to_the_second_and_taken_back(standing: Standing) -> None:
    patience, others = RUN.quorum.departure_s, {key.peer_id for key in MEMBERS} - {ME}
    standing.notice(heartbeat(OTHER), b"", 10.0)
    assert standing.departed(patience - 1) == ()
    assert set(standing.departed(patience)) == others - {OTHER}
    assert set(standing.departed(patience + 10)) == others
    standing.notice(heartbeat(OTHER).model_copy(update={"seq": 2}), b"", patience + 11)
    assert set(standing.departed(patience + 11)) == others - {OTHER}
    standing.stood_still(patience, patience + 12)
    assert standing.departed(patience + 12) == ()
    standing.move_to(next_state(RUN, GENESIS, [STRANGER]), patience + 12)
    assert set(standing.departed(2 * patience)) == {STRANGER.peer_id}


def test_what_was_read_on_waking_was_not_seen_later_than_that(standing: Standing) -> None:
    # A dead peer's last heartbeat, read after an hour's sleep, must not keep it alive for another hour.
    woke = 3600.0
    standing.notice(heartbeat(OTHER), b"", woke)
    standing.stood_still(woke, woke)
    assert set(standing.live(woke)) == {OTHER}
    assert not standing.live(woke + RUN.pace.lease_s)
