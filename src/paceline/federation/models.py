"""What a federated run is described with: nodes, a configuration, updates, a result.

`GlobalState` is not defined here: it is the very record that a swarm commits, `paceline.core.records`.

    >>> update = LocalUpdate(node_id="n1", round_id=1, gradients={"w": [1, 2]}, loss=0.5, samples_used=8)
    >>> update.gradients
    {'w': [1.0, 2.0]}
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Self

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from paceline.core.records import Count, Frozen, GlobalState
from paceline.core.vectors import Vector, alike, first_not_finite

__all__ = ["FederatedNode", "GlobalState", "LocalUpdate", "TrainingConfig", "TrainingResult"]


class FederatedNode(Frozen):
    """A participating node in a federated training run; its status may change as it goes."""

    model_config = ConfigDict(frozen=False, validate_assignment=True)

    node_id: str
    """Unique identifier of the node."""
    address: str
    """Network address or identifier, for example `host:port`."""
    capabilities: dict[str, object] = Field(default_factory=dict)
    """What its hardware and software can do; any keys and values."""
    status: str = "idle"
    """By convention `idle`, `training`, `done` or `failed`."""
    _receive: Callable[[GlobalState], None] | None = PrivateAttr(default=None)

    def reached_by(self, receive: Callable[[GlobalState], None]) -> Self:
        """Say how this node takes a state: that is how `distribute_state` reaches it.

        Args:
            receive: Called with each state that is distributed to it.

        Returns:
            This node.
        """
        self._receive = receive
        return self

    def receive(self, state: GlobalState) -> None:
        """Hand a state to this node; nothing happens where nobody has said how it is reached.

        Args:
            state: The state.
        """
        if self._receive is not None:
            self._receive(state)

    def __eq__(self, other: object) -> bool:
        # How a node is reached is no part of what it is.
        return isinstance(other, FederatedNode) and alike(self, other)

    __hash__ = None  # type: ignore[assignment]  # it may change


class TrainingConfig(Frozen):
    """Configuration of a complete federated training run."""

    model_config = ConfigDict(protected_namespaces=())  # `model_name` is no method of pydantic's

    model_name: str
    """Identifier of the model being trained."""
    learning_rate: Annotated[float, Field(gt=0.0)]
    """Learning rate of each node's local optimizer."""
    batch_size: Annotated[int, Field(gt=0)]
    """Sequences per local training step."""
    local_steps: Annotated[int, Field(gt=0)]
    """Local training steps of each node per global round."""
    global_rounds: Annotated[int, Field(gt=0)]
    """Global rounds to run."""
    num_nodes: Annotated[int, Field(gt=0)]
    """Expected number of participating nodes."""


class LocalUpdate(Frozen):
    """What one node reports after its local training of one global round."""

    # Checked below, where the message can say whose value it is.
    model_config = ConfigDict(allow_inf_nan=True)

    node_id: str
    """The node that produced this update."""
    round_id: Count
    """Global round that it belongs to."""
    gradients: dict[str, Vector]
    """Gradient vector by parameter name, all finite. Arrays and tensors stay the objects that were given."""
    loss: float
    """The node's training loss in this round; finite."""
    samples_used: Count
    """Training samples processed in this round."""

    @model_validator(mode="after")
    def _all_finite(self) -> Self:
        if not math.isfinite(self.loss):
            raise ValueError(f"node {self.node_id!r} reports a loss that is not finite: {self.loss}")
        for key, vector in self.gradients.items():
            place = first_not_finite(vector)
            if place is not None:
                raise ValueError(
                    f"node {self.node_id!r}: value {place} of {len(vector)} under {key!r} is not finite"
                )
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalUpdate) and alike(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds lists


class TrainingResult(Frozen):
    """Summary of a federated training run."""

    config: TrainingConfig
    """The configuration of the run."""
    final_loss: float
    """Average loss of the last round; 0 without a round."""
    rounds_completed: Annotated[int, Field(ge=0)]
    """Rounds done; fewer than configured when the provider stopped early."""
    total_samples: Annotated[int, Field(ge=0)]
    """Samples processed by all nodes in all rounds."""
    duration_seconds: Annotated[float, Field(ge=0.0)]
    """Wall-clock duration of the run, in seconds to 4 decimal places."""
