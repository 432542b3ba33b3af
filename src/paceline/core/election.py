"""Who leads a term, and how many peers make a quorum.

Both are pure functions of public facts, so every peer computes the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

_TIE_BREAK = -1


def ranking(run_id: str, term: int, peers: Collection[str]) -> list[str]:
    """Order peers for one term, differently in each term, the same for everybody.

    Args:
        run_id: The run.
        term: The coordinator's term.
        peers: Peer ids.

    Returns:
        The peers, first in line first, by SHA-256 of run, term and peer id.
    """
    return sorted(peers, key=lambda peer: hashlib.sha256(f"{run_id}\x00{term}\x00{peer}".encode()).digest())


def coordinator(run_id: str, term: int, candidates: Collection[str]) -> str:
    """Name the coordinator of a term.

    Args:
        run_id: The run.
        term: The term.
        candidates: Peers that are alive and in sync, as the caller sees them.

    Returns:
        The first in the term's ranking, or "" when there is no candidate.
    """
    return next(iter(ranking(run_id, term, candidates)), "")


def has_quorum(
    voters: Collection[str], electorate: Collection[str], *, run_id: str, min_members: int = 1
) -> bool:
    """Decide whether these voters may act for the swarm.

    Two quorums of one electorate always share a peer: a quorum is more than half of the electorate, or
    exactly half of it with the peer that ranks first in the run (so that of two halves one can go on).

    Args:
        voters: Who is in favour.
        electorate: The last committed roster, less those who departed. Empty before the first round of a
            run that names no founders: then `min_members` alone decides.
        run_id: The run.
        min_members: The least number of voters, from the run's parameters.

    Returns:
        Whether the voters are a quorum.
    """
    voters, electorate = frozenset(voters), frozenset(electorate)
    if len(voters) < max(1, min_members):
        return False
    if not electorate:
        return True
    doubled = 2 * len(voters & electorate) - len(electorate)
    return doubled > 0 or (doubled == 0 and ranking(run_id, _TIE_BREAK, electorate)[0] in voters)


def quorum_size(electorate: Collection[str], min_members: int) -> int:
    """How many voters are surely enough, for messages to people.

    Args:
        electorate: As in `has_quorum`.
        min_members: As in `has_quorum`.

    Returns:
        A number of peers.
    """
    return max(min_members, len(set(electorate)) // 2 + 1 if electorate else 1)
