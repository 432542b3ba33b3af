"""Claims about peers that have promised a later term than the one in which the swarm works."""

from __future__ import annotations

from paceline.core.chain import genesis
from paceline.core.leadership import Leadership
from paceline.core.records import RoundPlan
from paceline.core.standing import Standing
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

*ELECTORS, STRANGER = peer_ids(4)
RUN = make_run(ELECTORS)
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
COORDINATOR = ELECTORS[0]


def at(me: str, stranger_term: int = 7) -> tuple[Standing, Leadership]:
    """Stand where three electors follow the first of them in term 2, and a stranger has promised another."""
    standing = Standing(RUN, me, GENESIS, 0.0, term=2, coordinator=COORDINATOR)
    for elector in ELECTORS:
        standing.notice(heartbeat(RUN, GENESIS, elector, term=2, coordinator=COORDINATOR), b"", 0.0)
    said = heartbeat(RUN, GENESIS, STRANGER, term=stranger_term, coordinator=ELECTORS[1])
    standing.notice(said, b"", 0.0)
    return standing, Leadership(standing, 0.0)


def test_a_coordinator_calls_in_a_stranger_that_has_promised_a_later_term() -> None:
    standing, leadership = at(COORDINATOR)
    assert leadership.choose(1.0, may_lead=True)
    assert (standing.term, standing.coordinator) == (8, COORDINATOR)


def test_the_electors_follow_a_coordinator_into_a_later_term_at_once_and_so_does_the_stranger() -> None:
    standing, leadership = at(ELECTORS[1])
    moved = heartbeat(RUN, GENESIS, COORDINATOR, term=8, coordinator=COORDINATOR)
    standing.notice(moved.model_copy(update={"seq": 2}), b"", 1.0)
    assert leadership.choose(1.0, may_lead=True)
    assert (standing.term, standing.coordinator) == (8, COORDINATOR)

    standing, leadership = at(STRANGER)
    standing.term, standing.coordinator = 7, ELECTORS[1]
    for elector in ELECTORS[:2]:
        followed = heartbeat(RUN, GENESIS, elector, term=8, coordinator=COORDINATOR)
        standing.notice(followed.model_copy(update={"seq": 2}), b"", 1.0)
    assert leadership.choose(1.0, may_lead=True)
    assert (standing.term, standing.coordinator) == (8, COORDINATOR)


def test_strangers_can_make_a_coordinator_move_on_only_once_a_round_and_only_so_far() -> None:
    standing, leadership = at(COORDINATOR)
    assert leadership.choose(1.0, may_lead=True)
    for elector in ELECTORS:
        followed = heartbeat(RUN, GENESIS, elector, term=8, coordinator=COORDINATOR)
        standing.notice(followed.model_copy(update={"seq": 2, "acts": True}), b"", 1.0)
    again = heartbeat(RUN, GENESIS, STRANGER, term=99, coordinator=STRANGER)
    standing.notice(again.model_copy(update={"seq": 2}), b"", 1.0)
    assert not leadership.choose(1.0, may_lead=True)
    standing, leadership = at(COORDINATOR, stranger_term=10**9)
    assert not leadership.choose(1.0, may_lead=True)


def test_nobody_is_called_in_while_an_attempt_is_under_way_or_by_anyone_but_the_coordinator() -> None:
    standing, leadership = at(COORDINATOR)
    plan = RoundPlan(
        run_id=RUN.run_id,
        peer_id=COORDINATOR,
        seq=1,
        expires_at=1e9,
        round_id=1,
        term=2,
        attempt=0,
        prev_digest=GENESIS.digest(),
        roster=tuple(ELECTORS),
        samples=(80,) * 3,
        avg_loss=2.0,
    )
    standing.notice(plan, b"", 0.0)
    assert not leadership.choose(1.0, may_lead=True)
    standing, leadership = at(ELECTORS[1])
    assert not leadership.choose(1.0, may_lead=True)
