"""The coordinator of a federated run: gathers updates, averages them, keeps credits, distributes.

    state = coordinator.initialize(config, nodes)
    state = coordinator.run_round(state, updates)
    coordinator.distribute_state(state, nodes)

or all of it, round after round, with `coordinator.run_training(config, nodes, provider)`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from paceline.federation.averaging import GradientAverager
from paceline.federation.credits import CreditTracker
from paceline.federation.hashing import HashVerifier
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig, TrainingResult
from paceline.federation.provider import UpdateProvider, hand_on


class DiLoCoCoordinator:
    """Runs federated training by the DiLoCo protocol: local steps, one mean, the new state to everybody.

    Guarantees:
        A refused round leaves the coordinator as it was.
    """

    def __init__(self) -> None:
        self._averager = GradientAverager()
        self._hash_verifier = HashVerifier()
        self._credit_tracker = CreditTracker()
        self._receivers: dict[str, Callable[[GlobalState], None]] = {}
        self._provider: UpdateProvider | None = None
        self._round_id = 0
        self._reported: frozenset[str] = frozenset()
        self._latest: dict[str, int] = {}

    @property
    def credit_tracker(self) -> CreditTracker:
        """Credits of everybody who contributed, over all of this coordinator's rounds."""
        return self._credit_tracker

    @property
    def hash_verifier(self) -> HashVerifier:
        """Hashes gradients and compares hashes."""
        return self._hash_verifier

    def connect(self, node_id: str, receive: Callable[[GlobalState], None]) -> None:
        """Say how a node in this process is reached.

        Args:
            node_id: The node; connecting it again replaces the earlier way.
            receive: Called with each state that is distributed to it.
        """
        self._receivers[node_id] = receive

    def initialize(self, config: TrainingConfig, nodes: list[FederatedNode]) -> GlobalState:
        """Begin a training run. Round ids begin anew; credits stay.

        Args:
            config: The run's configuration.
            nodes: The participating nodes.

        Returns:
            The state at round 0, without weights: the updates of the first round tell which there are.
        """
        del config
        self._round_id = 0
        self._reported = frozenset()
        self._latest = {}
        return GlobalState(round_id=0, participating_nodes=[node.node_id for node in nodes])

    def collect_updates(self, round_id: int, updates: list[LocalUpdate]) -> GlobalState:
        """Aggregate updates into a new state, and credit the nodes' samples.

        Args:
            round_id: The global round; no smaller than that of the last call.
            updates: One update per participating node.

        Returns:
            The state after the round: averaged gradients as weights, the plain mean of the losses, and the
            contributing nodes with their samples, in the order of the updates.

        Raises:
            ValueError: There are no updates, the round lies behind the last one, a node reports twice in one
                round, or for an earlier round than it has before, or the updates can't be averaged.
        """
        if not updates:
            raise ValueError("No updates provided for aggregation.")
        node_ids = [update.node_id for update in updates]
        reported = self._admit(round_id, node_ids)
        self._refuse_older(updates)
        state = GlobalState(
            round_id=round_id,
            global_weights=self._averager.average(updates),
            participating_nodes=node_ids,
            avg_loss=_mean_loss(updates),
            samples=[update.samples_used for update in updates],
        )
        self._round_id, self._reported = round_id, reported
        self._latest |= {update.node_id: update.round_id for update in updates}
        for update in updates:
            self._credit_tracker.record_contribution(update.node_id, update.samples_used, round_id)
        return state

    def distribute_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Take a state to the nodes, each by the way that is known: `connect`'s, or its own.

        While `run_training` runs, its provider takes the state to the nodes that it stands for. At any other
        time the nodes that a provider gave carry their way with them. Who can't be reached is skipped.

        Args:
            state: The state; every connected node gets a copy of its own.
            nodes: The nodes that it is meant for.
        """
        for node in nodes:
            if node.node_id in self._receivers:
                self._receivers[node.node_id](state.model_copy(deep=True))
            elif self._provider is None:
                node.receive(state)
        if self._provider is not None:
            hand_on(self._provider, state, nodes)

    def run_round(self, state: GlobalState, updates: list[LocalUpdate]) -> GlobalState:
        """Run one round: aggregate its updates. Distributing the result is up to the caller.

        Args:
            state: The state before the round.
            updates: The nodes' updates.

        Returns:
            The state after it, one round on.
        """
        return self.collect_updates(state.round_id + 1, updates)

    def run_training(
        self,
        config: TrainingConfig,
        nodes: list[FederatedNode],
        update_provider: UpdateProvider,
    ) -> TrainingResult:
        """Run all rounds, or until the provider returns no updates.

        Args:
            config: The run's configuration.
            nodes: The participating nodes.
            update_provider: Asked for each round's updates and told each round's state.

        Returns:
            A summary.
        """
        began = time.perf_counter()
        state = self.initialize(config, nodes)
        total_samples = 0
        self._provider = update_provider
        try:
            for round_id in range(1, config.global_rounds + 1):
                updates = update_provider.get_updates(round_id, state, nodes)
                if not updates:
                    break
                state = self.run_round(state, updates)
                total_samples += sum(update.samples_used for update in updates)
                self.distribute_state(state, nodes)
        finally:
            self._provider = None
        return TrainingResult(
            config=config,
            final_loss=state.avg_loss,
            rounds_completed=state.round_id,
            total_samples=total_samples,
            duration_seconds=round(time.perf_counter() - began, 4),
        )

    def _refuse_older(self, updates: Sequence[LocalUpdate]) -> None:
        for update in updates:
            before = self._latest.get(update.node_id, 0)
            if update.round_id < before:
                lengths = {name: len(vector) for name, vector in sorted(update.gradients.items())}
                raise ValueError(
                    f"node {update.node_id!r} reports for round {update.round_id}, "
                    f"after one for round {before}: {lengths}"
                )

    def _admit(self, round_id: int, node_ids: Sequence[str]) -> frozenset[str]:
        if round_id < self._round_id:
            raise ValueError(
                f"round {round_id} lies behind round {self._round_id}: "
                f"updates of node {node_ids[0]!r} and {len(node_ids) - 1} others come too late"
            )
        twice = sorted(node_id for node_id, count in Counter(node_ids).items() if count > 1)
        before = self._reported if round_id == self._round_id else frozenset()
        twice = twice or sorted(before.intersection(node_ids))
        if twice:
            raise ValueError(f"node {twice[0]!r} reports more than once in round {round_id}")
        return before.union(node_ids)


def _mean_loss(updates: Sequence[LocalUpdate]) -> float:
    total = sum(update.loss for update in updates)
    if math.isfinite(total):
        return total / len(updates)
    return sum(update.loss / len(updates) for update in updates)
