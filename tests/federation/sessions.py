"""Sessions for tests: a small recipe, and providers that stop, fail or leave nodes out."""

from __future__ import annotations

from typing import Any

from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig
from paceline.federation.provider import UpdateProvider
from paceline.federation.synthetic import SyntheticProvider


def recipe(**changes: Any) -> TrainingConfig:
    """Make a training config."""
    content = {
        "model_name": "My model",
        "learning_rate": 1e-4,
        "batch_size": 4,
        "local_steps": 10,
        "global_rounds": 5,
        "num_nodes": 3,
    }
    return TrainingConfig.model_validate(content | changes)


class Interrupted(UpdateProvider):
    """Synthetic updates, and Ctrl-C in the middle of one round."""

    def __init__(self, config: TrainingConfig, at_round: int) -> None:
        self._inner, self._at_round = SyntheticProvider(config), at_round

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Report, or be interrupted."""
        if round_id == self._at_round:
            raise KeyboardInterrupt
        return self._inner.get_updates(round_id, state, nodes)


class InTurns(UpdateProvider):
    """Only some nodes report in each round, with as many samples as its number says; remembers its calls."""

    def __init__(self, *turns: tuple[int, ...]) -> None:
        self._turns = turns
        self.asked: list[tuple[int, GlobalState]] = []
        self.received: list[GlobalState] = []

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Report for the nodes whose turn it is."""
        self.asked.append((round_id, state))
        places = self._turns[round_id - 1] if round_id <= len(self._turns) else ()
        return [
            LocalUpdate(
                node_id=nodes[place].node_id,
                round_id=round_id,
                gradients={"w": [float(place), 1.0]},
                loss=float(place),
                samples_used=round_id,
            )
            for place in places
        ]

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Remember it."""
        self.received.append(state)
