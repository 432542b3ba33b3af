"""The chain of commits: its beginning, its links, and the one check that everybody applies to them.

A worker checks a commit with `check_link` before applying it, a joiner checks a fetched history with it, and
`paceline verify` replays a log with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paceline.core.config import RunConfig
from paceline.core.election import has_quorum, quorum_size
from paceline.core.errors import HistoryBroken, RecordRejected
from paceline.core.nicknames import named
from paceline.core.records import CommitRecord, GlobalState, Record, RoundReceipt
from paceline.core.wire import unseal


@dataclass(frozen=True)
class Link:
    """One row of history: a sealed commit and the sealed receipts that back it.

    Attributes:
        commit: A sealed `CommitRecord`.
        receipts: Sealed `RoundReceipt`s of members.
    """

    commit: bytes
    receipts: tuple[bytes, ...]


def genesis(run: RunConfig, weights_digest: str, momentum_digest: str) -> GlobalState:
    """Make the commit of round 0, the same on every peer.

    Args:
        run: The run's parameters.
        weights_digest: Digest of the first weights, which follow from the run's seed.
        momentum_digest: Digest of a momentum of zeros.

    Returns:
        The beginning of the chain; its participating nodes are the run's founders.
    """
    founders = sorted(run.quorum.founders)
    return GlobalState(
        round_id=0,
        run_id=run.run_id,
        participating_nodes=founders,
        samples=[0] * len(founders),
        plan_digest=run.digest(),
        weights_digest=weights_digest,
        momentum_digest=momentum_digest,
    )


def electorate(head: GlobalState, departed: Sequence[str] = ()) -> frozenset[str]:
    """Name the peers of which a majority must back the next commit.

    Args:
        head: The last commit.
        departed: Peers that count as gone for good.

    Returns:
        The last committed roster without the departed.
    """
    return frozenset(head.participating_nodes) - frozenset(departed)


def backers(commit: CommitRecord, receipts: Sequence[RoundReceipt]) -> set[str]:
    """Name the peers whose receipts are votes for exactly this commit in its ballot.

    Args:
        commit: The commit.
        receipts: Receipts of any attempt.

    Returns:
        Peer ids, each counted once.
    """
    return votes_for(commit, votes(receipts))


Votes = dict[tuple[object, ...], set[str]]
"""Who voted, by what exactly for."""


def votes(receipts: Iterable[RoundReceipt]) -> Votes:
    """Sort receipts by what they are votes for, so that many commits can be asked about at little cost.

    Args:
        receipts: Receipts of any attempt.

    Returns:
        The votes, for `votes_for`.
    """
    found: Votes = {}
    for receipt in receipts:
        what = (
            *(receipt.run_id, receipt.round_id, receipt.ballot, receipt.coordinator, receipt.departed),
            *(receipt.plan_digest, receipt.weights_digest, receipt.momentum_digest),
        )
        found.setdefault(what, set()).add(receipt.peer_id)
    return found


def votes_for(commit: CommitRecord, cast: Votes) -> set[str]:
    """Name the peers that voted for exactly this commit in its ballot.

    Args:
        commit: The commit.
        cast: The votes.

    Returns:
        Peer ids.
    """
    state = commit.state
    what = (
        *(commit.run_id, state.round_id, commit.ballot, commit.peer_id, commit.departed),
        *(state.plan_digest, state.weights_digest, state.momentum_digest),
    )
    return set(cast.get(what, ()))


def is_backed(
    commit: CommitRecord, receipts: Sequence[RoundReceipt], head: GlobalState, run: RunConfig
) -> bool:
    """Decide whether receipts make a commit final.

    Args:
        commit: The commit that would follow `head`.
        receipts: Receipts seen.
        head: The last commit.
        run: The run's parameters.

    Returns:
        Whether a quorum voted for it.
    """
    return has_quorum(
        backers(commit, receipts),
        electorate(head, commit.departed),
        run_id=run.run_id,
        min_members=run.quorum.min_members,
    )


def check_link(
    link: Link, head: GlobalState, run: RunConfig, unseal: Callable[[bytes], Record] = unseal
) -> CommitRecord:
    """Check one row of history against the row before it.

    Args:
        link: The row, untrusted.
        head: The commit before it, already checked.
        run: The run's parameters.
        unseal: Checks and parses sealed bytes; only the simulator, whose peers don't sign, has another.

    Returns:
        The commit: signed, following `head`, backed by a quorum of signed receipts.

    Raises:
        HistoryBroken: Names the round and the first thing that is wrong.
    """
    where = f"round {head.round_id + 1}"
    try:
        commit = unseal(link.commit)
    except RecordRejected as error:
        raise HistoryBroken(where, f"its commit: {error.cause}") from error
    if not isinstance(commit, CommitRecord):
        raise HistoryBroken(where, f"a {commit.kind} record stands in place of its commit")
    _check_state(commit, head, run, where)
    receipts = [_receipt(sealed, unseal, commit, where) for sealed in link.receipts]
    if len({receipt.peer_id for receipt in receipts}) != len(receipts):
        raise HistoryBroken(where, "two receipts of one peer")
    if not is_backed(commit, receipts, head, run):
        needed = quorum_size(electorate(head, commit.departed), run.quorum.min_members)
        raise HistoryBroken(where, f"{len(receipts)} receipts are no quorum of {needed}")
    return commit


def _check_state(commit: CommitRecord, head: GlobalState, run: RunConfig, where: str) -> None:
    state = commit.state
    if (commit.run_id, state.run_id) != (run.run_id, run.run_id):
        raise HistoryBroken(where, f"it belongs to run {commit.run_id}")
    if state.round_id != head.round_id + 1:
        raise HistoryBroken(where, f"round {state.round_id} stands in its place")
    if state.prev_digest != head.digest():
        raise HistoryBroken(where, "it does not follow the commit before it (prev_digest)")
    if state.global_weights:
        raise HistoryBroken(where, "it carries weights")
    _check_members(state, where)
    # Its own members may be among them: they trained for this result and were gone before its commit.
    if not set(commit.departed) <= set(head.participating_nodes):
        raise HistoryBroken(where, "it declares strangers departed")


def _check_members(state: GlobalState, where: str) -> None:
    nodes = state.participating_nodes
    if not nodes or len(nodes) != len(state.samples) or nodes != sorted(set(nodes)):
        raise HistoryBroken(where, "its list of participating nodes is malformed")
    # Receipts vote for a plan by digest only: without this its publisher could credit whom it likes.
    if state.plan_digest != state.averaged_plan_digest():
        raise HistoryBroken(where, "its members, samples or loss are not those of the plan voted for")


def _receipt(
    sealed: bytes, unseal: Callable[[bytes], Record], commit: CommitRecord, where: str
) -> RoundReceipt:
    try:
        receipt = unseal(sealed)
    except RecordRejected as error:
        raise HistoryBroken(where, f"a receipt: {error.cause}") from error
    if not isinstance(receipt, RoundReceipt) or receipt.peer_id not in backers(commit, [receipt]):
        raise HistoryBroken(where, f"the receipt of {named(receipt.peer_id)} is for something else")
    return receipt
