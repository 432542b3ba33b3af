"""Anybody may write records that are valid: what strangers say costs little and counts for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from paceline.core.records import Ballot, GlobalState, Phase, Record, RoundPlan, WorkerMetrics
from paceline.core.signing import SigningKey
from paceline.watch.fold import MOST_SPANS, MOST_SPANS_OF_A_PEER, Swarm
from paceline.watch.picture import Picture
from paceline.watch.statements import MOST_STRANGERS, Statements
from paceline.web.figures import tokens_per_s
from tests.core.history import commit_of, next_state, receipt_of
from tests.watch.statements import IDS, KEYS, RUN, T0, beat, plan_of, round_of, states

STRANGERS = [SigningKey.from_seed(number.to_bytes(2, "big") * 16) for number in range(1000, 1300)]
PARAMETERS = 1000


@pytest.fixture
def swarm() -> Swarm:
    found = Swarm(RUN, PARAMETERS)
    for record in round_of(states(1)[0], T0):
        found.take(record, T0)
    found.picture(T0)
    return found


def lies(state: GlobalState, key: SigningKey, number: int) -> Iterator[Record]:
    """All that one stranger can say of the round of a commit, with numbers out of all bounds."""
    seq = int(1000 * T0) + number
    made_up = state.model_copy(update={"avg_loss": float(number)})
    made_up = made_up.model_copy(update={"plan_digest": made_up.averaged_plan_digest()})
    lie = commit_of(made_up, key, seq=seq)
    head = {"run_id": RUN.run_id, "peer_id": key.peer_id, "seq": seq, "expires_at": T0 + 600}
    yield plan_of(state, key, seq=seq, term=number)
    yield receipt_of(lie, key, seq=seq, loss=1e300)
    yield lie
    measured = {"loss": -1e300, "val_loss": -1e12, "bytes_in": 0, "bytes_out": 2**47 + number}
    yield WorkerMetrics.model_validate({**head, **measured, "round_id": state.round_id})


def flood(swarm: Swarm, rounds: range = range(2, 5), each: int = 2) -> None:
    for round_id in rounds:
        state = next_state(RUN, states(1)[0], KEYS, round_id=round_id)
        for key in STRANGERS:
            for number in range(each):
                for record in lies(state, key, number):
                    swarm.take(record, T0 + 1)


def finish(swarm: Swarm) -> Picture:
    for record in round_of(states(2)[1], T0 + 2):
        swarm.take(record, T0 + 2)
    return swarm.picture(T0 + 2)


def test_strangers_crowd_out_no_member_and_are_in_no_total(swarm: Swarm) -> None:
    before = swarm.picture(T0)
    flood(swarm, range(2, 3))
    for number, key in enumerate(STRANGERS):
        loud = beat(0, 2, T0 + 1 + number / 1000, samples_per_s=1e9)
        swarm.take(loud.model_copy(update={"peer_id": key.peer_id}), T0 + 1)
    picture = finish(swarm)
    done = picture.rounds[1]
    assert (picture.rounds_committed, done.receipts, done.val_loss) == (2, 4, 1.5)
    assert done.losses == {peer_id: 2.0 + number for number, peer_id in enumerate(IDS)}
    assert done.voids == ()
    assert {view.peer_id for view in picture.peers if view.is_member} == set(IDS)
    assert picture.bytes_sent - before.bytes_sent == 4 * 100
    assert tokens_per_s(picture) == 4 * 10.0 * RUN.model.seq_len
    assert all(view.credits == 0 for view in picture.peers if not view.is_member)


def test_a_claim_of_credits_counts_only_of_a_member(swarm: Swarm) -> None:
    late = Swarm(RUN, PARAMETERS)  # it has missed rounds, so that claims are all there is
    for record in round_of(states(5)[4], T0):
        late.take(record, T0)
    claim = round_of(states(5)[4], T0 + 1)[-1].model_copy(update={"balance": 10**9})
    late.take(claim.model_copy(update={"peer_id": STRANGERS[0].peer_id}), T0 + 1)
    late.take(beat(0, 6, T0 + 1).model_copy(update={"peer_id": STRANGERS[0].peer_id}), T0 + 1)
    shown = {view.peer_id: view.credits for view in late.picture(T0 + 1).peers}
    assert shown == dict.fromkeys(IDS, 40) | {STRANGERS[0].peer_id: 0}


def test_many_strangers_cost_the_watch_a_bounded_time(swarm: Swarm) -> None:
    flood(swarm)
    swarm.chronicle.is_stale = True
    began = time.process_time()
    swarm.picture(T0 + 1)
    cost_s = time.process_time() - began
    facts = swarm.chronicle.facts_of(2)
    assert facts is not None
    for kept in (facts.plans, facts.receipts, facts.commits):
        assert len({each.peer_id for each in kept}) == MOST_STRANGERS
    # Eleven such rounds cost 0.13 s, and 6.2 s (growing with the square of the strangers) before.
    assert cost_s < 1, cost_s
    assert finish(swarm).rounds_committed == 2


def test_of_each_author_only_the_latest_few_are_kept() -> None:
    state = states(1)[0]
    kept = Statements[Ballot, RoundPlan]([IDS[0]])
    for key in (KEYS[0], STRANGERS[0]):
        for number in range(20):
            kept.keep(Ballot(number, 0), plan_of(state, key, seq=number, term=number))
    mine = [plan for plan in kept if plan.peer_id == IDS[0]]
    assert sorted(plan.seq for plan in mine) == list(range(4, 20))
    assert sorted(plan.seq for plan in kept if plan.peer_id != IDS[0]) == [16, 17, 18, 19]


def test_the_spans_of_strangers_make_no_picture_large_and_hide_no_members_spans(swarm: Swarm) -> None:
    phases = [Phase.TRAIN, Phase.WAIT]
    for number in range(150):
        for key in STRANGERS[:80]:
            at = T0 + 1 + number
            restless = beat(0, 2, at, phase=phases[number % 2])
            swarm.take(restless.model_copy(update={"peer_id": key.peer_id}), at)
        for member in range(4):
            swarm.take(beat(member, 2, T0 + 1 + number), T0 + 1 + number)
    spans = swarm.picture(T0 + 151).spans
    assert len(spans) == MOST_SPANS
    by_peer = [span.peer_id for span in spans]
    assert set(IDS) <= set(by_peer)
    assert max(map(by_peer.count, set(by_peer))) == MOST_SPANS_OF_A_PEER


def test_a_plan_that_only_strangers_follow_is_no_attempt(swarm: Swarm) -> None:
    state = next_state(RUN, states(1)[0], KEYS, round_id=2)
    swarm.take(plan_of(state, STRANGERS[0], term=9), T0 + 1)
    follower = beat(0, 2, T0 + 1, term=9, coordinator=STRANGERS[0].peer_id)
    swarm.take(follower.model_copy(update={"peer_id": STRANGERS[1].peer_id}), T0 + 1)
    for record in (plan_of(state, seq=2), receipt_of(commit_of(state, KEYS[0]), STRANGERS[2])):
        swarm.take(record, T0 + 1)
    shown = swarm.picture(T0 + 1).rounds[-1]
    assert (shown.round_id, shown.author, shown.receipts, shown.voids) == (2, IDS[0], 0, ())
