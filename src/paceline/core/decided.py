"""Which results of a round may have been decided before a coordinator came to lead it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from paceline.core.election import has_quorum
from paceline.core.records import Ballot, Vote
from paceline.core.standing import Standing


def perhaps_decided(
    votes: Mapping[str, Vote], followers: Collection[str], standing: Standing, departed: Collection[str]
) -> list[Vote]:
    """Find which results of the latest ballot may already have been committed.

    Members that drifted apart vote for different results in one ballot, and yet one of these may have had a
    quorum: that of those who voted for it, and of peers of whom nothing is known. Whoever has gone on to a
    later term, with any coordinator, can't vote in that ballot any more: its record tells whether it had.

    Args:
        votes: Latest votes of followers in this round; at least one.
        followers: A quorum, none of which will vote in an earlier term any more.
        standing: What this peer knows.
        departed: Members of the last roster that don't count.

    Returns:
        One vote per result. With none, nothing was decided; of several, at most one was.
    """
    latest = max(vote.ballot for vote in votes.values())
    said = {peer: vote for peer, vote in votes.items() if vote.ballot == latest}
    results = sorted(set(said.values()), key=Vote.model_dump_json)
    if len(results) == 1:
        return results
    for peer, receipt in standing.receipts_of(latest).items():
        if (vote := receipt.vote()) is not None:
            said.setdefault(peer, vote)
    electors = standing.electors.difference(departed)
    closed = set(followers) | _gone_on(latest, standing)
    for peer in closed - set(followers):
        vote = standing.peers[peer].record.vote
        if vote is not None and vote.ballot == latest:
            said.setdefault(peer, vote)
    unknown = electors - closed - set(said)
    least = standing.run.quorum.min_members
    # A run without founders has no roster before round 1, but fewer than twice `min_members` peers.
    num_unknown = 2 * least - 1 - len(closed | set(said))

    def may_have_won(result: Vote) -> bool:
        voters = {peer for peer in said if said[peer] == result}
        if not standing.electors:
            return len(voters) + num_unknown >= least
        return has_quorum(voters | unknown, electors, run_id=standing.run.run_id)

    return [result for result in results if may_have_won(result)]


def _gone_on(latest: Ballot, standing: Standing) -> set[str]:
    # Whose record of this round is in a later term. But not one whose latest vote is of a later ballot: it
    # may have voted in both. Nor one that follows nobody: its state may be lost, and a vote forgotten.
    here = (standing.round_id, standing.head.digest())
    records = {peer: seen.record for peer, seen in standing.peers.items()}
    return {
        peer
        for peer, record in records.items()
        if (record.round_id, record.head_digest) == here
        and record.coordinator
        and record.term > latest.term
        and (record.vote is None or record.vote.ballot <= latest)
    }
