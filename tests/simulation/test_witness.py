"""The witness is no rubber stamp: each of the invariants is broken here once, by hand, and it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paceline.core.actions import Promise
from paceline.core.chain import genesis
from paceline.core.coordination import committed_state
from paceline.core.records import CommitRecord, GlobalState, Record, RoundPlan, RoundReceipt, Vote
from paceline.simulate.disk import Disk, state_of
from paceline.simulate.swarm import peer_name, virtual_run
from paceline.simulate.witness import Violation, Witness
from tests.protocol.said import heartbeat

RUN = virtual_run(3)
MEMBERS = tuple(sorted(peer_name(number) for number in range(3)))
ME = MEMBERS[0]
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
STAMP = {"run_id": RUN.run_id, "peer_id": ME, "seq": 1, "expires_at": 1e9}
RESULT = {"weights_digest": "aa" * 32, "momentum_digest": "bb" * 32}
OTHER_RESULT = {"weights_digest": "cc" * 32, "momentum_digest": "dd" * 32}


def plan(samples: int = 8, head: GlobalState = GENESIS) -> RoundPlan:
    place = {"round_id": head.round_id + 1, "term": 2, "attempt": 0, "prev_digest": head.digest()}
    content = {"roster": MEMBERS, "samples": (samples,) * 3, "avg_loss": 2.0}
    return RoundPlan.model_validate({**STAMP, **place, **content})


def receipt(result: dict[str, str], term: int = 2) -> RoundReceipt:
    place = {"round_id": 1, "term": term, "attempt": 0, "coordinator": ME, "plan_digest": plan().digest()}
    return RoundReceipt.model_validate({**STAMP, **place, **result, "complete": bool(result)})


def commit(samples: int = 8, head: GlobalState = GENESIS) -> GlobalState:
    return committed_state(plan(samples, head), receipt(RESULT))


def commit_record(state: GlobalState) -> CommitRecord:
    return CommitRecord.model_validate({**STAMP, "state": state, "ballot_term": 2, "ballot_attempt": 0})


def disk(vote: Vote | None = None, term: int = 2, *commits: GlobalState) -> Disk:
    kept = Disk([GENESIS, *commits], promised=Promise(term, vote))
    if vote is not None:
        kept.stage(1, state_of(vote))
    return kept


def voted(result: dict[str, str], term: int = 2) -> tuple[Record, Disk]:
    cast = receipt(result, term)
    return cast, disk(cast.vote(), term)


def said(term: int, vote: Vote | None = None) -> tuple[Record, Disk]:
    return heartbeat(RUN, GENESIS, ME, term=term, coordinator=ME, vote=vote), disk(vote, 9)


HONEST = disk(None, 2, commit())


def watching() -> Witness:
    """A witness that has seen everybody train for one round."""
    witness = Witness(GENESIS)
    for member in MEMBERS:
        witness.trained(member, 8)
    return witness


PUBLISHED: dict[str, tuple[str, list[tuple[Record, Disk]]]] = {
    "another commit": (
        "one commit per round",
        [(commit_record(commit(8)), HONEST), (commit_record(commit(9)), HONEST)],
    ),
    "an earlier term": ("terms only grow", [said(3), said(2)]),
    "a term that is not on disk": ("promises are durable", [(said(3)[0], disk(None, 2))]),
    "a second plan": ("one plan per ballot", [(plan(8), HONEST), (plan(9), HONEST)]),
    "a second vote": ("one vote per ballot", [voted(RESULT), voted(OTHER_RESULT)]),
    "another vote in a heartbeat": (
        "one vote per ballot",
        [voted(RESULT), said(2, receipt(OTHER_RESULT).vote())],
    ),
    "a vote taken back": ("one vote per ballot", [voted(RESULT), voted({})]),
    "a vote of old": ("votes only advance", [voted(RESULT, 3), said(3, receipt(RESULT, 2).vote())]),
    "a vote below a promised term": (
        "promised terms hold",
        [(receipt(RESULT), disk(receipt(RESULT).vote(), term=3))],
    ),
    "a vote that is not on disk": ("promises are durable", [(receipt(RESULT), disk())]),
    "a vote without its result": (
        "votes are on disk",
        [(receipt(RESULT), replace(disk(receipt(RESULT).vote()), staged={}))],
    ),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_what_a_peer_publishes_is_held_against_all_it_has_said(case: str) -> None:
    invariant, (*before, last) = PUBLISHED[case]
    witness = Witness(GENESIS)
    for record, kept in before:
        witness.published(record, kept)
    with pytest.raises(Violation) as caught:
        witness.published(*last)
    assert caught.value.invariant == invariant


def test_a_peer_that_applies_another_commit_is_caught() -> None:
    witness = watching()
    witness.applied(ME, HONEST)
    with pytest.raises(Violation, match="one commit per round"):
        witness.applied(MEMBERS[1], disk(None, 2, commit(9)))


def test_a_gap_in_a_log_is_caught() -> None:
    first = commit()
    with pytest.raises(Violation, match="the chain verifies"):
        Witness(GENESIS).applied(ME, disk(None, 2, commit(8, first)))


def test_credits_that_are_counted_otherwise_are_caught() -> None:
    wrong = replace(HONEST)
    wrong.balances = {ME: 9}
    with pytest.raises(Violation, match="credits are one fold"):
        Witness(GENESIS).applied(ME, wrong)


def test_a_step_that_is_credited_twice_is_caught() -> None:
    witness, second = watching(), commit(8, commit())
    witness.applied(ME, HONEST)
    for member in MEMBERS[1:]:
        witness.trained(member, 8)
    with pytest.raises(Violation, match="a step counts once"):
        witness.applied(ME, disk(None, 2, commit(), second))


def test_credits_that_shrink_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # All count alike, and yet wrongly: whoever is not in the last commit is forgotten.
    def forgets(commits: list[GlobalState]) -> dict[str, int]:
        last = commits[-1]
        return dict(zip(last.participating_nodes, last.samples, strict=True))

    monkeypatch.setattr("paceline.simulate.witness.fold", forgets)
    monkeypatch.setattr("paceline.simulate.disk.fold", forgets)
    first = commit()
    second = commit(8, first).model_copy(update={"participating_nodes": list(MEMBERS[1:]), "samples": [8, 8]})
    witness = watching()
    witness.applied(ME, disk(None, 2, first))
    with pytest.raises(Violation, match="credits never shrink"):
        witness.applied(ME, disk(None, 2, first, second))


def test_other_bits_under_the_same_commit_are_caught() -> None:
    with pytest.raises(Violation, match="one digest per round"):
        Witness(GENESIS).stands_on(ME, commit(), ("cc" * 32, "dd" * 32))
