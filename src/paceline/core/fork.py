"""Two histories of one run: where they part, and which of them to stand on.

A fork needs more than the protocol forgives: a state folder from a backup, or a partition that outlasted
`quorum.departure_s`. Both histories then verify, so verifying can't choose. What counts is where the swarm
lives: nobody leaves a history that a quorum still stands on for one that none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from paceline.core import chain
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.election import has_quorum
from paceline.core.records import GlobalState


@dataclass(frozen=True)
class Branch:
    """What one history adds to the last commit that it shares with another.

    Attributes:
        head: Its last commit.
        digests: Digests of its commits after the shared one, oldest first.
    """

    head: GlobalState
    digests: tuple[str, ...]

    def supporters(self, heads: Mapping[str, str]) -> set[str]:
        """Find the members of its last roster that stand on this branch; nobody else's word counts.

        Args:
            heads: Digest of the last commit of each live peer, by peer id.

        Returns:
            Peer ids.
        """
        return {peer for peer in chain.electorate(self.head) if heads.get(peer) in self.digests}

    def is_alive(self, heads: Mapping[str, str], run: RunConfig) -> bool:
        """Decide whether those who stand on this branch can commit its next round.

        Args:
            heads: As for `supporters`.
            run: The run's parameters.

        Returns:
            Whether they are a quorum of its last roster.
        """
        return has_quorum(
            self.supporters(heads),
            chain.electorate(self.head),
            run_id=run.run_id,
            min_members=run.quorum.min_members,
        )


@dataclass(frozen=True)
class Fork:
    """A fork.

    Attributes:
        shared: The last commit of both histories.
        ours: What ours adds.
        theirs: What theirs adds.
    """

    shared: GlobalState
    ours: Branch
    theirs: Branch

    def should_leave(self, heads: Mapping[str, str], run: RunConfig) -> bool:
        """Decide whether to give up our branch for theirs.

        Args:
            heads: Digest of the last commit of each live peer, this one included, by peer id.
            run: The run's parameters.

        Returns:
            True when theirs is alive and ours is not. Of two that are alive, peers move to the one with more
            peers, or, of equals, with the smaller digest where they part: so the smaller one dissolves.
        """
        if not self.theirs.is_alive(heads, run):
            return False
        if not self.ours.is_alive(heads, run):
            return True
        mine, others = len(self.ours.supporters(heads)), len(self.theirs.supporters(heads))
        return (-others, self.theirs.digests[0]) < (-mine, self.ours.digests[0])


def find_fork(ours: Iterable[GlobalState], theirs: Iterable[Link], run: RunConfig) -> Fork | None:
    """Compare two histories from their common beginning.

    Args:
        ours: Our commits from the genesis on, verified.
        theirs: Another peer's history from round 1 on, untrusted.
        run: The run's parameters.

    Returns:
        The fork; None when one history continues the other.

    Raises:
        HistoryBroken: Theirs does not verify.
    """
    states = iter(ours)
    shared = theirs_head = next(states)
    links = iter(theirs)
    for link in links:
        theirs_head = chain.check_link(link, theirs_head, run).state
        mine = next(states, None)
        if mine is None:
            return None
        if mine.digest() != theirs_head.digest():
            return Fork(
                shared, _branch(mine, states), _branch(theirs_head, _checked(links, theirs_head, run))
            )
        shared = mine
    return None


def _branch(first: GlobalState, rest: Iterable[GlobalState]) -> Branch:
    head, digests = first, [first.digest()]
    for head in rest:
        digests.append(head.digest())
    return Branch(head, tuple(digests))


def _checked(links: Iterator[Link], head: GlobalState, run: RunConfig) -> Iterator[GlobalState]:
    for link in links:
        head = chain.check_link(link, head, run).state
        yield head
