"""Two histories of one run: where they part, and which of them to stand on.

A fork needs more than the protocol forgives: a state folder from a backup, or a partition that outlasted
`quorum.departure_s`. Both histories then verify, so verifying can't choose. The members of the last roster
that both share can: nobody can invent one, and where a quorum of them stands, the swarm is.
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

        Whom a branch itself names as members or as departed counts for nothing: a single member of a former
        roster could sign such a branch, with any number of invented peers.

        Args:
            heads: Digest of the last commit of each live peer, this one included, by peer id.
            run: The run's parameters.

        Returns:
            Whether a quorum of the last shared roster stands on theirs.
        """
        there = {peer for peer, digest in heads.items() if digest in self.theirs.digests}
        electorate = chain.electorate(self.shared)
        return has_quorum(there & electorate, electorate, run_id=run.run_id)


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
