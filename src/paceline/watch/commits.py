"""Which commits a watch takes for true: anybody may publish one, and only a quorum makes it final.

A watch that has followed the chain applies the rule that every peer applies. One that has just begun, or that
was away, knows no roster of which a quorum could be asked for, and takes what most peers stand on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from paceline.core import chain
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.election import has_quorum
from paceline.core.errors import HistoryBroken, RecordRejected
from paceline.core.records import CommitRecord, RoundReceipt
from paceline.core.wire import unseal
from paceline.watch.rounds import RoundFacts


@dataclass(frozen=True)
class Footing:
    """The last commit that is settled.

    Attributes:
        round_id: Its round; 0 before the first.
        digest: Its digest; empty for the beginning, which a watch does not know.
        roster: Its members; before round 1 the run's founders.
    """

    round_id: int
    digest: str
    roster: frozenset[str]


@dataclass
class Agreement:
    """What peers say of commits, gathered for one look.

    Attributes:
        run: The run's parameters.
        facts: What was said of each round.
        standing_on: Who said to stand on a commit, by its digest.
        proven: Digests of commits that come from a history that verifies.
    """

    run: RunConfig
    facts: Mapping[int, RoundFacts]
    standing_on: Mapping[str, Collection[str]]
    proven: Collection[str] = ()
    _candidates: dict[int, dict[str, CommitRecord]] = field(init=False, default_factory=dict)
    _support: dict[str, set[str]] = field(init=False, default_factory=dict)
    _heard: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._heard.update(*self.standing_on.values())
        # The latest round first: whoever backs a commit backs what it follows.
        for round_id in sorted(self.facts, reverse=True):
            commits = [c for c in self.facts[round_id].commits if is_well_formed(c, self.run)]
            votes = chain.votes(self.facts[round_id].receipts)
            # One commit may have several publishers: any of them will do, but always the same.
            rated = {id(c): (len(chain.votes_for(c, votes)), c.peer_id, c.ballot) for c in commits}
            commits.sort(key=lambda c: rated[id(c)])
            self._candidates[round_id] = {commit.state.digest(): commit for commit in commits}
            for commit in commits:
                digest = commit.state.digest()
                supporters = self._support.setdefault(digest, set(self.standing_on.get(digest, ())))
                supporters |= chain.votes_for(commit, votes)
            for later in self._candidates.get(round_id + 1, {}).values():
                if later.state.prev_digest in self._candidates[round_id]:
                    self._support[later.state.prev_digest] |= self._support[later.state.digest()]

    def chain_after(self, footing: Footing) -> list[CommitRecord]:
        """Follow the chain as far as it is known.

        Args:
            footing: Where to begin.

        Returns:
            Commits in order of their rounds. Where one was missed there is a gap.
        """
        found: list[CommitRecord] = []
        while more := self._continued(footing) or self._resumed(footing):
            found += more
            footing = footing_of(more[-1])
        return found

    def _continued(self, footing: Footing) -> list[CommitRecord]:
        # Each follows the one before, and a quorum of that one's roster stands behind it.
        found: list[CommitRecord] = []
        while True:
            follows = [
                (digest in self.proven, len(self._support[digest]), digest)
                for digest, commit in self._candidates.get(footing.round_id + 1, {}).items()
                if commit.state.prev_digest == footing.digest or not footing.digest
                if digest in self.proven or self._is_final(commit, footing.roster - set(commit.departed))
            ]
            if not follows:
                return found
            found.append(self._candidates[footing.round_id + 1][max(follows)[-1]])
            footing = footing_of(found[-1])

    def _resumed(self, footing: Footing) -> list[CommitRecord]:
        # Beyond a gap: what most of those who are known stand on, what it follows, and so on below it.
        by_digest = {
            digest: commit
            for round_id, commits in self._candidates.items()
            for digest, commit in commits.items()
            if round_id > footing.round_id + 1 and self._is_believed(digest, commit, footing.roster)
        }
        found: list[CommitRecord] = []
        while by_digest:
            before = by_digest.get(found[0].state.prev_digest) if found else None
            best = before or by_digest[max(by_digest, key=lambda digest: self._rank(digest, footing.roster))]
            found.insert(0, best)
            # What is of the round right below is its predecessor or none of this chain.
            limit, link = best.state.round_id, best.state.prev_digest
            by_digest = {
                digest: commit
                for digest, commit in by_digest.items()
                if commit.state.round_id < limit - 1 or digest == link
            }
        return found

    def _rank(self, digest: str, known: frozenset[str]) -> tuple[bool, int, int, str]:
        support = self._support[digest]
        return digest in self.proven, len(support & known), len(support), digest

    def _is_believed(self, digest: str, commit: CommitRecord, known: frozenset[str]) -> bool:
        if digest in self.proven:
            return True
        # Most of those members of the last known roster that were heard, should any have been.
        heard = known & self._heard
        votes = self._support[digest] & known
        members = frozenset(commit.state.participating_nodes)
        return (not heard or 2 * len(votes) > len(heard)) and self._is_final(commit, members, its_own=True)

    def _is_final(self, commit: CommitRecord, electorate: frozenset[str], *, its_own: bool = False) -> bool:
        least = self.run.quorum.min_members
        return has_quorum(
            self._support[commit.state.digest()],
            electorate,
            run_id=self.run.run_id,
            min_members=min(least, len(electorate)) if its_own else least,
        )


def footing_of(commit: CommitRecord) -> Footing:
    """Stand on a commit.

    Args:
        commit: The commit.

    Returns:
        What the next one is judged by.
    """
    state = commit.state
    return Footing(state.round_id, state.digest(), frozenset(state.participating_nodes))


def is_well_formed(commit: CommitRecord, run: RunConfig) -> bool:
    """Check what can be checked of a commit by itself.

    Args:
        commit: A signed record.
        run: The run's parameters.

    Returns:
        Whether it is of this run, within its rounds, and lists its members as its plan does.
    """
    state = commit.state
    nodes: Sequence[str] = state.participating_nodes
    return (
        commit.run_id == state.run_id == run.run_id
        and 0 < state.round_id <= run.rounds
        and not state.global_weights
        and bool(nodes)
        and len(nodes) == len(state.samples)
        and list(nodes) == sorted(set(nodes))
        and state.plan_digest == state.averaged_plan_digest()
    )


def verified(link: Link, footing: Footing, run: RunConfig) -> tuple[CommitRecord, list[RoundReceipt]]:
    """Check a row of history from anybody.

    A watch has no model and does not know the first weights, so it does not know what round 1 follows; that
    it is backed by a quorum of the founders has to do.

    Args:
        link: The row, untrusted.
        footing: The commit that it has to follow.
        run: The run's parameters.

    Returns:
        The commit and the receipts that back it.

    Raises:
        HistoryBroken: Names the round and what is wrong with it.
    """
    where = f"round {footing.round_id + 1}"
    try:
        commit, *receipts = map(unseal, (link.commit, *link.receipts))
    except RecordRejected as error:
        raise HistoryBroken(where, error.cause) from error
    votes = [receipt for receipt in receipts if isinstance(receipt, RoundReceipt)]
    if not isinstance(commit, CommitRecord) or not is_well_formed(commit, run):
        raise HistoryBroken(where, "a malformed commit")
    state = commit.state
    if state.round_id != footing.round_id + 1 or (footing.digest and state.prev_digest != footing.digest):
        raise HistoryBroken(where, "it does not follow the commit before it")
    voters, electorate = chain.backers(commit, votes), footing.roster - set(commit.departed)
    if not has_quorum(voters, electorate, run_id=run.run_id, min_members=run.quorum.min_members):
        raise HistoryBroken(where, f"{len(voters)} receipts are no quorum")
    return commit, votes
