"""Claims about a peer that has lost the state of its last commit but not its log."""

from __future__ import annotations

import pytest

from paceline.core.actions import Action, Promise, Publish, Repair
from paceline.core.chain import genesis
from paceline.core.records import PeerRecord, Vote
from paceline.core.rounds import Remembered, RoundMachine, Staged
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

PEERS = peer_ids(3)
RUN = make_run(PEERS)
GENESIS = genesis(RUN, "00" * 32, "11" * 32)


def vote_in(round_id: int) -> Vote:
    digest = "ab" * 32
    return Vote(
        round_id=round_id,
        term=1,
        attempt=0,
        plan_digest=digest,
        weights_digest=digest,
        momentum_digest=digest,
    )


def said_among_followers(promised: Promise) -> list[Action]:
    """Let a peer at the beginning meet two that elect one of themselves, and collect what it does."""
    machine = RoundMachine(RUN, PEERS[0], GENESIS, 0.0, Remembered(promised))
    for number in (1, 2):
        record = heartbeat(RUN, GENESIS, PEERS[number], term=4, coordinator=PEERS[1])
        machine.notice(record, b"", 1.0)
    return machine.advance(1.0)


def test_whoever_has_voted_in_a_later_round_follows_nobody_in_an_earlier_one() -> None:
    # Its vote in round 1, if it cast one, is forgotten: following would vouch that there was none.
    actions = said_among_followers(Promise(term=1, vote=vote_in(3)))
    assert not any(isinstance(action, Promise) for action in actions)
    (said,) = (action.record for action in actions if isinstance(action, Publish))
    assert isinstance(said, PeerRecord) and said.coordinator == ""


def test_whoever_has_voted_in_this_round_or_before_follows_the_others() -> None:
    for promised in (Promise(), Promise(term=1, vote=vote_in(1))):
        assert any(isinstance(action, Promise) for action in said_among_followers(promised))


def does_beside_a_quorum(claims: int, promised: Promise, logged: int) -> list[Action]:
    """Let a peer at the beginning meet a quorum there too, and a stranger who claims a later round."""
    stranger = (set(peer_ids(4)) - set(PEERS)).pop()
    machine = RoundMachine(RUN, PEERS[0], GENESIS, 0.0, Remembered(promised, logged=logged))
    for number in (1, 2):
        machine.notice(heartbeat(RUN, GENESIS, PEERS[number]), b"", 0.1)
    later = GENESIS.model_copy(update={"round_id": claims - 1})
    machine.notice(heartbeat(RUN, later, stranger), b"", 0.1)
    return machine.advance(0.1)


@pytest.mark.parametrize(("promised", "logged"), [(Promise(term=1, vote=vote_in(3)), 0), (Promise(), 2)])
def test_whoever_knows_of_a_later_round_repairs_from_a_stranger_though_a_quorum_is_beside_it(
    promised: Promise, logged: int
) -> None:
    # That quorum may have lost its states too, and the stranger be the only one who stands where all stood.
    assert any(isinstance(action, Repair) for action in does_beside_a_quorum(3, promised, logged))


@pytest.mark.parametrize("promised", [Promise(), Promise(term=1, vote=vote_in(1))])
def test_whoever_knows_of_no_later_round_lets_a_stranger_claim_one_beside_a_quorum(promised: Promise) -> None:
    assert not any(isinstance(action, Repair) for action in does_beside_a_quorum(3, promised, 0))


def test_whoever_has_a_later_round_in_its_log_follows_nobody_in_an_earlier_one() -> None:
    machine = RoundMachine(RUN, PEERS[0], GENESIS, 0.0, Remembered(Promise(term=1), logged=1))
    for number in (1, 2):
        machine.notice(heartbeat(RUN, GENESIS, PEERS[number], term=4, coordinator=PEERS[1]), b"", 1.0)
    assert not any(isinstance(action, Promise) for action in machine.advance(1.0))


def test_a_restarted_peer_that_has_applied_what_it_voted_for_repairs_itself_at_once() -> None:
    # Its checkpoint matches its old vote, and is no result of this round: there is no commit to wait for.
    head = GENESIS.model_copy(update={"round_id": 1, "participating_nodes": PEERS, "samples": [1, 1, 1]})
    digest = "ab" * 32
    voted_for = Staged(digest, digest, digest)
    remembered = Remembered(Promise(term=1, vote=vote_in(1)), voted_for, logged=1)
    machine = RoundMachine(RUN, PEERS[0], head, 0.0, remembered)
    for number in (1, 2):
        later = head.model_copy(update={"round_id": 5})
        machine.notice(heartbeat(RUN, later, PEERS[number], term=1, coordinator=PEERS[1]), b"", 0.1)
    assert any(isinstance(action, Repair) for action in machine.advance(0.1))
