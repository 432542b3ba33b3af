"""Credits: what each peer contributed, as a fold over the chain of commits.

One credit is one training sequence whose gradient is part of a committed round. Nobody issues credits; they
follow from the commits, so whoever holds the chain can recompute them offline and nobody can forge them.

    >>> from paceline.core.records import GlobalState
    >>> fold([GlobalState(round_id=1, participating_nodes=["a", "b"], samples=[3, 4])])
    {'a': 3, 'b': 4}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paceline.core.records import GlobalState


def credit(balances: Mapping[str, int], commit: GlobalState) -> dict[str, int]:
    """Add one commit to the balances.

    Args:
        balances: Credits by peer id before the commit.
        commit: A committed round.

    Returns:
        Credits by peer id after it. No balance ever shrinks.
    """
    after = dict(balances)
    for peer_id, samples in zip(commit.participating_nodes, commit.samples, strict=True):
        after[peer_id] = after.get(peer_id, 0) + samples
    return after


def fold(commits: Iterable[GlobalState]) -> dict[str, int]:
    """Compute everybody's credits from the beginning.

    Args:
        commits: The chain, in order.

    Returns:
        Credits by peer id.
    """
    balances: dict[str, int] = {}
    for commit in commits:
        balances = credit(balances, commit)
    return balances
