"""Claims about members that drift apart in the very attempt that a new coordinator has to finish."""

from __future__ import annotations

from paceline.core.actions import Publish
from paceline.core.chain import genesis
from paceline.core.config import QuorumConfig, RunConfig
from paceline.core.coordination import Coordination
from paceline.core.decided import perhaps_decided
from paceline.core.records import PeerRecord, RoundPlan, RoundReceipt, Vote
from paceline.core.standing import Standing
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

PEERS = peer_ids(5)
RUN = make_run(PEERS)
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
OLD_PLAN = RoundPlan(
    run_id=RUN.run_id,
    peer_id=PEERS[0],
    seq=1,
    expires_at=1e9,
    round_id=1,
    term=1,
    attempt=0,
    prev_digest=GENESIS.digest(),
    roster=tuple(PEERS),
    samples=(8,) * 5,
    avg_loss=2.0,
)


def vote_for(digest: str) -> Vote:
    return Vote(
        round_id=1,
        term=1,
        attempt=0,
        plan_digest=OLD_PLAN.digest(),
        weights_digest=digest * 32,
        momentum_digest=digest * 32,
    )


COMMON, DRIFTED = vote_for("aa"), vote_for("bb")


def receipt(peer_id: str, vote: Vote) -> RoundReceipt:
    return RoundReceipt(
        run_id=RUN.run_id,
        peer_id=peer_id,
        seq=1,
        expires_at=1e9,
        round_id=1,
        term=1,
        attempt=0,
        coordinator=PEERS[0],
        plan_digest=vote.plan_digest,
        complete=True,
        weights_digest=vote.weights_digest,
        momentum_digest=vote.momentum_digest,
    )


def seen(votes: dict[int, Vote | None], receipts: dict[int, Vote], run: RunConfig = RUN) -> Standing:
    """Make the coordinator of term 3, whom these peers follow, and who has seen these receipts."""
    standing = Standing(run, PEERS[4], genesis(run, "00" * 32, "11" * 32), 0.0, term=3, coordinator=PEERS[4])
    standing.notice(OLD_PLAN, b"", 0.0)
    for number, vote in votes.items():
        record = heartbeat(run, standing.head, PEERS[number], term=3, coordinator=PEERS[4], vote=vote)
        standing.notice(record, b"", 0.0)
    for number, voted in receipts.items():
        standing.notice(receipt(PEERS[number], voted), b"", 0.0)
    return standing


def plan_after(votes: dict[int, Vote | None], receipts: dict[int, Vote]) -> RoundPlan | None:
    standing = seen(votes, receipts)
    coordination = Coordination()
    coordination.begin_round(0.0)
    coordination.arrivals.watch(standing, 1.0)
    actions = coordination.act(standing, 1.0)
    plans = [a.record for a in actions if isinstance(a, Publish) and isinstance(a.record, RoundPlan)]
    return plans[0] if plans else None


def decided_after(votes: dict[int, Vote | None], *elsewhere: PeerRecord, run: RunConfig = RUN) -> list[Vote]:
    """Tell what may have been decided when these peers follow the coordinator, and others say this."""
    standing = seen(votes, {}, run)
    for said in elsewhere:
        standing.notice(said, b"", 0.0)
    cast = {PEERS[number]: vote for number, vote in votes.items() if vote is not None}
    return perhaps_decided(cast, {PEERS[number] for number in votes}, standing, ())


def test_a_drifted_members_vote_is_never_finished_when_the_others_may_have_decided() -> None:
    # 0, 1 and 3 voted alike: a quorum. 0 has committed and died, 1 is cut off.
    plan = plan_after({2: DRIFTED, 3: COMMON, 4: None}, {0: COMMON, 1: COMMON})
    assert plan is not None and plan.adopts == COMMON


def test_nothing_is_finished_while_either_of_two_results_may_have_been_decided() -> None:
    assert plan_after({2: DRIFTED, 3: COMMON, 4: None}, {}) is None


def test_a_round_starts_again_when_drift_left_no_result_with_a_quorum() -> None:
    votes: dict[int, Vote | None] = {0: vote_for("cc"), 1: COMMON, 2: DRIFTED, 3: vote_for("dd"), 4: None}
    plan = plan_after(votes, {})
    assert plan is not None and plan.adopts is None


def in_term_2(number: int, coordinator: str = PEERS[0], vote: Vote | None = None) -> PeerRecord:
    return heartbeat(RUN, GENESIS, PEERS[number], term=2, coordinator=coordinator, vote=vote)


def test_whoever_went_on_to_a_later_term_can_no_longer_decide_between_two_results() -> None:
    split = {2: DRIFTED, 3: COMMON, 4: None}
    assert decided_after(split) == [COMMON, DRIFTED]
    assert decided_after(split, in_term_2(0), in_term_2(1)) == []
    assert decided_after(split, in_term_2(0, vote=COMMON), in_term_2(1)) == []
    assert decided_after(split, in_term_2(0, vote=COMMON), in_term_2(1, vote=COMMON)) == [COMMON]
    assert decided_after(split, in_term_2(0, vote=COMMON)) == [COMMON]  # 1 may still have voted like them


def test_whoever_may_have_forgotten_a_vote_is_still_waited_for() -> None:
    split = {2: DRIFTED, 3: COMMON, 4: None}
    assert decided_after(split, in_term_2(1)) == []
    for said in (
        in_term_2(1, coordinator=""),  # it repairs itself, and follows nobody until then
        in_term_2(1, vote=COMMON.model_copy(update={"term": 2})),  # it may have voted in both ballots
        in_term_2(1).model_copy(update={"term": 1}),  # it may still vote
        in_term_2(1).model_copy(update={"round_id": 2}),
        in_term_2(1).model_copy(update={"head_digest": "cc" * 32}),
    ):
        assert decided_after(split, said) == [COMMON, DRIFTED]


def test_without_founders_a_split_first_round_starts_again_once_enough_have_told_their_votes() -> None:
    # Nobody is known to be an elector, but of the five peers that three are a majority of, five have spoken.
    run = make_run([], quorum=QuorumConfig(min_members=3))
    split: dict[int, Vote | None] = {2: DRIFTED, 3: COMMON, 4: None}
    assert decided_after(split, run=run) == [COMMON, DRIFTED]
    assert decided_after({**split, 0: COMMON}, run=run) == [COMMON]
    assert decided_after({**split, 0: COMMON, 1: None}, run=run) == []


def test_a_single_result_is_always_finished() -> None:
    plan = plan_after({2: None, 3: COMMON, 4: None}, {})
    assert plan is not None and plan.adopts == COMMON
