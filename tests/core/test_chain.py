"""A link of history is taken only when nothing at all is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from paceline.core import chain
from paceline.core.chain import Link, check_link
from paceline.core.config import QuorumConfig, RunConfig
from paceline.core.credits import fold
from paceline.core.errors import HistoryBroken
from paceline.core.records import CreditRecord, GlobalState
from paceline.core.signing import SigningKey
from paceline.core.wire import seal
from tests.core.history import (
    MOMENTUM,
    WEIGHTS,
    commit_of,
    genesis_of,
    history,
    link_of,
    next_state,
    peers,
    receipt_of,
    run_of,
)

STRANGER, *MEMBERS = peers(5)
RUN = run_of(MEMBERS)
GENESIS = genesis_of(RUN)
HEAD = next_state(RUN, GENESIS, MEMBERS)
STATE = next_state(RUN, HEAD, MEMBERS)
COMMIT = commit_of(STATE, MEMBERS[0])
GOOD = link_of(COMMIT, MEMBERS[0], MEMBERS)
RECEIPTS = [receipt_of(COMMIT, key) for key in MEMBERS]


def with_state(**changes: object) -> Link:
    """A link whose state differs, with receipts that really vote for it."""
    state = next_state(RUN, HEAD, MEMBERS, **changes)
    return link_of(commit_of(state, MEMBERS[0]), MEMBERS[0], MEMBERS)


def with_departed(*gone: SigningKey) -> Link:
    """A link whose publisher declares these departed, with receipts that really vote for it."""
    return link_of(commit_of(STATE, MEMBERS[0], departed=ids(gone)), MEMBERS[0], MEMBERS)


def published_by(key: SigningKey) -> Link:
    """The good link's receipts under a commit that somebody else has published."""
    return Link(seal(commit_of(STATE, key), key), GOOD.receipts)


def with_edited_state(**changes: object) -> Link:
    """A link whose publisher edited the state after the vote."""
    edited = COMMIT.model_copy(update={"state": STATE.model_copy(update=changes)})
    return Link(seal(edited, MEMBERS[0]), GOOD.receipts)


def with_receipt(voter: SigningKey = MEMBERS[0], **changes: object) -> Link:
    """A link of which one receipt differs."""
    return Link(GOOD.commit, (seal(receipt_of(COMMIT, voter, **changes), voter), *GOOD.receipts[1:]))


def another_record() -> bytes:
    record = CreditRecord(
        run_id=RUN.run_id,
        peer_id=MEMBERS[0].peer_id,
        seq=1,
        expires_at=1.0,
        round_id=2,
        head_digest="",
        balance=1,
    )
    return seal(record, MEMBERS[0])


def flipped(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def ids(keys: Sequence[SigningKey]) -> list[str]:
    return [key.peer_id for key in keys]


DEVIATIONS: dict[str, tuple[Callable[[], Link], str]] = {
    "a commit of random bytes": (lambda: Link(b"abc", GOOD.receipts), "its commit: not a sealed record"),
    "a changed commit": (lambda: Link(flipped(GOOD.commit), GOOD.receipts), "signature"),
    "a commit too large": (lambda: Link(bytes(5000), GOOD.receipts), "4 KB"),
    "another record as commit": (lambda: Link(another_record(), GOOD.receipts), "a credits record stands"),
    "a receipt as commit": (lambda: Link(GOOD.receipts[0], GOOD.receipts), "a receipt record stands"),
    "another run": (lambda: with_state(run_id="other-00000000"), "belongs to run other"),
    "another run in the envelope": (
        lambda: link_of(commit_of(STATE, MEMBERS[0], run_id="other"), MEMBERS[0], MEMBERS),
        "belongs to run other",
    ),
    "a skipped round": (lambda: with_state(round_id=3), "round 3 stands in its place"),
    "a repeated round": (lambda: with_state(round_id=1), "round 1 stands in its place"),
    "another commit before it": (lambda: with_state(prev_digest=GENESIS.digest()), "prev_digest"),
    "weights inside": (lambda: with_state(global_weights={"w": [1.0]}), "carries weights"),
    "no members": (lambda: with_state(participating_nodes=[], samples=[]), "participating nodes"),
    "members out of order": (
        lambda: with_state(participating_nodes=ids(MEMBERS)[::-1]),
        "participating nodes",
    ),
    "a member twice": (
        lambda: with_state(participating_nodes=sorted([*ids(MEMBERS)[:3], MEMBERS[0].peer_id])),
        "participating nodes",
    ),
    "samples that fit no roster": (lambda: with_state(samples=[1, 2, 3]), "participating nodes"),
    "a stranger departed": (lambda: with_departed(STRANGER), "departed"),
    "samples edited after the vote": (lambda: with_edited_state(samples=[8, 8, 8, 9]), "voted for"),
    "loss edited after the vote": (lambda: with_edited_state(avg_loss=0.1), "voted for"),
    "term edited after the vote": (lambda: with_edited_state(term=2), "voted for"),
    "attempt edited after the vote": (lambda: with_edited_state(attempt=9), "voted for"),
    "a member dropped after the vote": (
        lambda: with_edited_state(participating_nodes=ids(MEMBERS)[:3], samples=[8] * 3),
        "voted for",
    ),
    "weights edited after the vote": (lambda: with_edited_state(weights_digest="0c" * 32), "something else"),
    "momentum edited after the vote": (
        lambda: with_edited_state(momentum_digest="0c" * 32),
        "something else",
    ),
    "another ballot": (
        lambda: Link(seal(commit_of(STATE, MEMBERS[0], ballot_term=2), MEMBERS[0]), GOOD.receipts),
        "something else",
    ),
    "a stranger as publisher": (lambda: published_by(STRANGER), "something else"),
    "another member as publisher": (lambda: published_by(MEMBERS[1]), "something else"),
    "a receipt for another coordinator": (
        lambda: with_receipt(coordinator=MEMBERS[1].peer_id),
        "something else",
    ),
    "a receipt of random bytes": (lambda: Link(GOOD.commit, (b"abc", *GOOD.receipts[1:])), "a receipt: not"),
    "a changed receipt": (
        lambda: Link(GOOD.commit, (flipped(GOOD.receipts[0]), *GOOD.receipts[1:])),
        "a receipt: the signature",
    ),
    "another record as receipt": (
        lambda: Link(GOOD.commit, (another_record(), *GOOD.receipts[1:])),
        "something else",
    ),
    "the commit as receipt": (lambda: Link(GOOD.commit, (GOOD.commit,)), "something else"),
    "a receipt of another round": (lambda: with_receipt(round_id=1), "something else"),
    "a receipt of another attempt": (lambda: with_receipt(attempt=1), "something else"),
    "a receipt of another term": (lambda: with_receipt(term=3), "something else"),
    "a receipt of another run": (lambda: with_receipt(run_id="other"), "something else"),
    "a receipt for another plan": (lambda: with_receipt(plan_digest="0c" * 32), "something else"),
    "a receipt for other weights": (lambda: with_receipt(weights_digest="0c" * 32), "something else"),
    "a receipt for other momentum": (lambda: with_receipt(momentum_digest="0c" * 32), "something else"),
    "a receipt for nothing": (
        lambda: with_receipt(complete=False, weights_digest="", momentum_digest=""),
        "something else",
    ),
    "a receipt twice": (lambda: Link(GOOD.commit, (*GOOD.receipts, GOOD.receipts[0])), "two receipts"),
    "no receipts": (lambda: Link(GOOD.commit, ()), "0 receipts are no quorum of 3"),
    "too few receipts": (lambda: Link(GOOD.commit, GOOD.receipts[:1]), "1 receipts are no quorum of 3"),
    "strangers' receipts": (
        lambda: link_of(COMMIT, MEMBERS[0], [STRANGER, MEMBERS[0]]),
        "2 receipts are no quorum of 3",
    ),
}


def test_a_good_link_gives_its_commit() -> None:
    assert check_link(GOOD, HEAD, RUN) == COMMIT


@pytest.mark.parametrize("name", DEVIATIONS)
def test_every_single_deviation_is_named(name: str) -> None:
    make, expected = DEVIATIONS[name]
    with pytest.raises(HistoryBroken) as caught:
        check_link(make(), HEAD, RUN)
    assert caught.value.where == "round 2"
    assert expected in caught.value.what


def test_any_three_of_four_members_are_enough() -> None:
    for left_out in range(4):
        voters = [key for index, key in enumerate(MEMBERS) if index != left_out]
        assert check_link(link_of(COMMIT, MEMBERS[0], voters), HEAD, RUN) == COMMIT


def test_a_newcomer_may_vote_and_publish_once_it_is_in_the_roster() -> None:
    keys = sorted([STRANGER, *MEMBERS], key=lambda key: key.peer_id)
    commit = commit_of(next_state(RUN, HEAD, keys), STRANGER)
    assert check_link(link_of(commit, STRANGER, keys), HEAD, RUN) == commit


def test_the_departed_no_longer_count_towards_the_majority() -> None:
    gone, rest = MEMBERS[:2], MEMBERS[2:]
    state = next_state(RUN, HEAD, rest)
    commit = commit_of(state, rest[0], departed=ids(gone))
    assert check_link(link_of(commit, rest[0], rest), HEAD, RUN) == commit
    still_counting = link_of(commit_of(state, rest[0]), rest[0], rest[:1])
    with pytest.raises(HistoryBroken, match="no quorum of 3"):
        check_link(still_counting, HEAD, RUN)


def test_a_member_that_departed_after_training_is_credited_but_its_vote_does_not_count() -> None:
    gone, rest = MEMBERS[:1], MEMBERS[1:]
    commit = commit_of(STATE, rest[0], departed=ids(gone))
    assert check_link(link_of(commit, rest[0], rest), HEAD, RUN).state == STATE
    with pytest.raises(HistoryBroken, match="no quorum of 2"):
        check_link(link_of(commit, rest[0], [*gone, rest[0]]), HEAD, RUN)


def test_a_coordinator_can_t_declare_anyone_departed_whom_the_voters_still_count() -> None:
    gone, rest = MEMBERS[:2], MEMBERS[2:]
    state = next_state(RUN, HEAD, rest)
    honest = commit_of(state, rest[0])
    lying = commit_of(state, rest[0], departed=ids(gone))
    receipts = tuple(seal(receipt_of(honest, voter), voter) for voter in rest)
    with pytest.raises(HistoryBroken, match="something else"):
        check_link(Link(seal(lying, rest[0]), receipts), HEAD, RUN)


def test_who_departed_changes_no_digest_so_every_ballot_leads_to_one_commit() -> None:
    gone, rest = MEMBERS[:1], MEMBERS[1:]
    state = next_state(RUN, HEAD, rest)
    with_all = commit_of(state, rest[0])
    without = commit_of(state, rest[1], ballot_term=4, departed=ids(gone))
    for commit, publisher in ((with_all, rest[0]), (without, rest[1])):
        assert check_link(link_of(commit, publisher, rest), HEAD, RUN).state.digest() == state.digest()


def test_a_commit_published_by_anyone_but_its_ballots_coordinator_is_refused() -> None:
    assert not chain.is_backed(commit_of(STATE, MEMBERS[1]), RECEIPTS, HEAD, RUN)
    for key in (STRANGER, *MEMBERS[1:]):
        assert chain.backers(commit_of(STATE, key), RECEIPTS) == set()
        with pytest.raises(HistoryBroken, match="something else"):
            check_link(published_by(key), HEAD, RUN)
    assert check_link(published_by(MEMBERS[0]), HEAD, RUN) == COMMIT


def test_a_coordinator_need_not_be_a_member_of_the_round_it_commits() -> None:
    commit = commit_of(STATE, STRANGER)
    assert check_link(link_of(commit, STRANGER, MEMBERS), HEAD, RUN) == commit


def test_the_round_after_looks_at_the_new_roster_only() -> None:
    rest = MEMBERS[1:]
    smaller = next_state(RUN, HEAD, rest)
    following = next_state(RUN, smaller, rest)
    link = link_of(commit_of(following, rest[0]), rest[0], rest[:2])
    assert check_link(link, smaller, RUN).state == following


def test_a_commit_finished_by_another_term_keeps_the_state_of_its_plan() -> None:
    commit = commit_of(STATE, MEMBERS[1], ballot_term=7, ballot_attempt=2)
    assert check_link(link_of(commit, MEMBERS[1], MEMBERS), HEAD, RUN).state == STATE


def test_without_founders_the_least_number_backs_the_first_round() -> None:
    run = RunConfig(name="open", quorum=QuorumConfig(min_members=2))
    head = genesis_of(run)
    commit = commit_of(next_state(run, head, MEMBERS), MEMBERS[0])
    assert check_link(link_of(commit, MEMBERS[0], MEMBERS[:2]), head, run)
    with pytest.raises(HistoryBroken, match="no quorum of 2"):
        check_link(link_of(commit, MEMBERS[0], MEMBERS[:1]), head, run)


def test_the_genesis_is_the_same_in_whatever_order_founders_are_named() -> None:
    turned = RUN.model_copy(update={"quorum": QuorumConfig(founders=RUN.quorum.founders[::-1])})
    state = chain.genesis(turned, WEIGHTS, MOMENTUM)
    assert state.participating_nodes == GENESIS.participating_nodes == sorted(RUN.quorum.founders)
    assert GENESIS.round_id == 0
    assert GENESIS.plan_digest == RUN.digest()
    assert fold([GENESIS]) == dict.fromkeys(ids(MEMBERS), 0)


def test_a_whole_history_checks_link_by_link() -> None:
    head: GlobalState = GENESIS
    for link in history(RUN, MEMBERS, 4):
        head = check_link(link, head, RUN).state
    assert head.round_id == 4


@pytest.mark.parametrize("field", sorted(GlobalState.model_fields))
def test_every_field_of_a_commit_is_in_its_digest(field: str) -> None:
    changes: dict[str, object] = {
        "global_weights": {"w": [1.0]},
        "participating_nodes": ["x"],
        "samples": [1],
        "avg_loss": 1.25,
        "run_id": "x",
    }
    value = changes.get(field, "0d" * 32 if field.endswith("digest") else 99)
    assert STATE.model_copy(update={field: value}).digest() != STATE.digest()
