"""Falling behind is noticed at once, and asking in vain becomes rare."""

from __future__ import annotations

from itertools import pairwise

import pytest

from paceline.core.lag import Lag
from paceline.core.records import PeerRecord, Phase
from paceline.core.standing import Standing
from tests.core.history import genesis_of, peers, run_of

STRANGER, *MEMBERS = peers(5)
RUN = run_of(MEMBERS)
ME = MEMBERS[0].peer_id


def heard(claims: dict[str, int], now: float = 0.0) -> Standing:
    """A standing in round 1 that has just heard in which rounds others are."""
    standing = Standing(RUN, ME, genesis_of(RUN), 0.0)
    for peer, round_id in claims.items():
        content = {"run_id": RUN.run_id, "peer_id": peer, "seq": 1, "expires_at": 1e9, "round_id": round_id}
        content |= {"head_digest": "", "phase": Phase.TRAIN, "inner_step": 0, "samples": 0, "loss": 0.0}
        content |= {"samples_per_s": 0.0, "term": 0, "coordinator": ""}
        standing.notice(PeerRecord.model_validate(content), b"", now)
    return standing


def asked_at(lag: Lag, until: int) -> list[int]:
    """The seconds at which a peer that always fails asks for a repair, while somebody claims to be ahead."""
    asked = []
    for now in range(until):
        if lag.repair(heard({STRANGER.peer_id: 9}, now), now) is not None:
            asked.append(now)
            lag.failed(now)
    return asked


def test_repairs_in_vain_are_tried_ever_more_rarely_but_never_given_up() -> None:
    asked = asked_at(Lag(), 1000)
    gaps = [later - before for before, later in pairwise(asked)]
    assert gaps[:5] == [2, 4, 8, 16, 32]
    assert set(gaps[5:]) == {60} and len(gaps) > 15


def test_thousands_of_failures_are_no_trouble() -> None:
    lag = Lag()
    for _ in range(1000):
        lag.failed(0.0)
    assert lag.repair(heard({STRANGER.peer_id: 9}), 59.9) is None


def test_after_catching_up_the_next_failure_is_the_first_again() -> None:
    lag = Lag()
    asked_at(lag, 300)
    lag.caught_up()
    lag.failed(500.0)
    assert lag.repair(heard({STRANGER.peer_id: 9}, 502.0), 502.0) is not None


def test_whoever_has_no_result_is_behind_at_once_and_whoever_has_waits_for_the_commit() -> None:
    lag, lease_s = Lag(), RUN.pace.lease_s
    ahead = heard({MEMBERS[1].peer_id: 2})
    assert lag.is_behind(ahead, has_result=False, now=1.0)
    waiting = Lag()
    assert not waiting.is_behind(ahead, has_result=True, now=1.0)
    still = heard({MEMBERS[1].peer_id: 2}, lease_s)
    assert waiting.is_behind(still, has_result=True, now=1.0 + lease_s)


@pytest.mark.parametrize("claims", [{}, {MEMBERS[1].peer_id: 1}, {MEMBERS[1].peer_id: 0}, {ME: 1}], ids=len)
def test_nobody_ahead_means_nothing_to_fetch(claims: dict[str, int]) -> None:
    assert not Lag().is_behind(heard(claims), has_result=False, now=1.0)
    assert Lag().repair(heard(claims), 1.0) is None


def test_members_are_asked_before_strangers_however_far_those_claim_to_be() -> None:
    one, two = MEMBERS[1].peer_id, MEMBERS[2].peer_id
    order = Lag().repair(heard({STRANGER.peer_id: 10**6, one: 2, two: 3}), 1.0)
    assert order is not None
    assert order.donors == (two, one, STRANGER.peer_id)


def beside(count: int, digest: str, round_id: int = 5) -> Standing:
    """A standing in round 5 of a peer that hears others on some commit."""
    head = genesis_of(RUN).model_copy(update={"round_id": 4})
    standing = Standing(RUN, ME, head, 0.0)
    for record in heard(
        dict.fromkeys([key.peer_id for key in MEMBERS[1 : 1 + count]], round_id)
    ).peers.values():
        standing.notice(record.record.model_copy(update={"head_digest": digest or head.digest()}), b"", 0.0)
    return standing


def test_a_peer_alone_on_its_commit_asks_those_who_stand_together_elsewhere() -> None:
    for round_id in (4, 5):
        standing = beside(3, "ab" * 32, round_id)
        lag = Lag()
        lease_s = RUN.pace.lease_s
        others = standing.peers.values()
        asked = []
        for second in range(60):
            for seen in list(others):
                again = seen.record.model_copy(update={"seq": seen.record.seq + 1})
                standing.notice(again, b"", float(second))
            if lag.is_behind(standing, has_result=False, now=float(second)):
                asked.append(second)
        assert asked and asked[0] >= 2 * lease_s
        order = lag.repair(standing, 59.0)
        assert order is not None and set(order.donors) == {key.peer_id for key in MEMBERS[1:]}


def test_a_peer_with_a_quorum_beside_it_is_not_lured_away() -> None:
    standing = beside(3, "")
    lag = Lag()
    assert not any(lag.is_behind(standing, has_result=False, now=now) for now in (0.0, 5.0))
    assert lag.repair(standing, 5.0) is None
