"""The coordinator of a federated run: gathers updates, averages them, keeps credits, distributes.

    state = coordinator.initialize(config, nodes)
    state = coordinator.run_round(state, updates)
    coordinator.distribute_state(state, nodes)

or all of it, round after round, with `coordinator.run_training(config, nodes, provider)`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from paceline.federation.averaging import GradientAverager
from paceline.federation.credits import CreditTracker
from paceline.federation.hashing import HashVerifier
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig, TrainingResult
from paceline.federation.provider import UpdateProvider


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
                round, or the updates can't be averaged.
        """
        if not updates:
            raise ValueError("No updates provided for aggregation.")
        node_ids = [update.node_id for update in updates]
        reported = self._admit(round_id, node_ids)
        state = GlobalState(
            round_id=round_id,
            global_weights=self._averager.average(updates),
            participating_nodes=node_ids,
            avg_loss=sum(update.loss for update in updates) / len(updates),
            samples=[update.samples_used for update in updates],
        )
        self._round_id, self._reported = round_id, reported
        for update in updates:
            self._credit_tracker.record_contribution(update.node_id, update.samples_used, round_id)
        return state

    def distribute_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Take a state to the nodes: to connected ones by call, to the others through the running provider.

        Nodes that nobody is connected to are skipped.

        Args:
            state: The state.
            nodes: The nodes that it is meant for.
        """
        for node in nodes:
            if node.node_id in self._receivers:
                self._receivers[node.node_id](state)
        # Whoever has `get_updates` may be a provider, so this is only asked of who has it.
        receive = getattr(self._provider, "receive_state", None)
        if receive is not None:
            receive(state, nodes)

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
