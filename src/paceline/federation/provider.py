"""Where a coordinator's updates come from: subclass `UpdateProvider` and say what the nodes do."""

from __future__ import annotations

from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate


class UpdateProvider:
    """Stands for the nodes in `DiLoCoCoordinator.run_training`: gives their updates, takes the new state."""

    def get_updates(
        self,
        round_id: int,
        state: GlobalState,
        nodes: list[FederatedNode],
    ) -> list[LocalUpdate]:
        """Return the updates of all nodes for one round.

        Args:
            round_id: The global round, from 1.
            state: The global state before this round's aggregation.
            nodes: All participating nodes.

        Returns:
            One update per active node. An empty list stops the training early.

        Raises:
            NotImplementedError: The subclass does not override it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override get_updates")

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Take a new global state to the nodes; called once after each round. Does nothing by default.

        Args:
            state: The state after the round.
            nodes: The nodes that it is meant for.
        """


def hand_on(provider: UpdateProvider, state: GlobalState, nodes: list[FederatedNode]) -> None:
    """Tell a provider of a new state.

    Args:
        provider: Whoever has `get_updates`; it need not have `receive_state`, and is then not told.
        state: The state after a round.
        nodes: The nodes that it is meant for.
    """
    receive = getattr(provider, "receive_state", None)
    if receive is not None:
        receive(state, nodes)
