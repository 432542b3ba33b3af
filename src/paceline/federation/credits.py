"""Credits of a federated run: the swarm's fold, one contribution at a time.

>>> tracker = CreditTracker()
>>> tracker.record_contribution("node-001", samples=128, round_id=1)
>>> tracker.record_contribution("node-001", samples=64, round_id=2)
>>> tracker.all_credits(), tracker.get_credits("node-999")
({'node-001': 192}, 0)
"""

from __future__ import annotations

from collections import defaultdict

from paceline.core.credits import credit
from paceline.core.records import GlobalState


class CreditTracker:
    """Samples that each node contributed, over all recorded rounds."""

    def __init__(self) -> None:
        self._balances: dict[str, int] = defaultdict(int)
        self._history: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def record_contribution(self, node_id: str, samples: int, round_id: int) -> None:
        """Add a node's samples of one round to its credits and to its history.

        Args:
            node_id: The contributing node.
            samples: Samples that it processed; 0 or more, since no balance ever shrinks.
            round_id: The global round.

        Raises:
            ValueError: Samples or round are negative.
        """
        if samples < 0 or round_id < 0:
            raise ValueError(f"node {node_id!r}: {samples} samples in round {round_id} can't be credited")
        link = GlobalState(round_id=round_id, participating_nodes=[node_id], samples=[samples])
        self._balances = credit(self._balances, link)
        self._history[node_id].append((link.round_id, link.samples[0]))

    def get_credits(self, node_id: str) -> int:
        """Look up one node's credits.

        Args:
            node_id: The node.

        Returns:
            Samples over all recorded rounds; 0 for a node that never contributed.
        """
        return self._balances.get(node_id, 0)

    def all_credits(self) -> dict[str, int]:
        """Look up everybody's credits.

        Returns:
            Samples by node id, of all that ever contributed; a copy.
        """
        return dict(self._balances)

    def history(self, node_id: str) -> list[tuple[int, int]]:
        """Look up what makes up one node's credits.

        Args:
            node_id: The node.

        Returns:
            Round and samples of each contribution, in the order of recording; a copy.
        """
        return list(self._history.get(node_id, ()))
