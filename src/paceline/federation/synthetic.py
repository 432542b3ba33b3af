"""Synthetic updates: what `paceline run` trains with when there is nothing to train.

Each node reports the gradient of a bowl, the loss `mean(w ** 2) / 2`, whose gradient is `w` but for a
constant. The point `w` begins at a Gaussian one and moves towards the bottom as `1 / sqrt(round)`; each node
sees it with Gaussian noise of its own. So the averages are closer to `w` than what any node reports, and the
loss falls as `1 / round`.

>>> from paceline.federation.models import FederatedNode
>>> config = TrainingConfig(
...     model_name="m", learning_rate=0.1, batch_size=4, local_steps=10, global_rounds=2, num_nodes=1
... )
>>> provider = SyntheticProvider(config, ("weight",), param_size=3)
>>> (update,) = provider.get_updates(1, GlobalState(round_id=0), [FederatedNode(node_id="a", address="b")])
>>> len(update.gradients["weight"]), update.samples_used
(3, 40)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig
from paceline.federation.provider import UpdateProvider

_NOISE = 0.1
_START, _NODE = 0, 1


class SyntheticProvider(UpdateProvider):
    """Makes Gaussian updates up, the same for the same seed, whatever the nodes are called.

    Guarantees:
        A round's updates depend on nothing but the seed and the round.
    """

    def __init__(
        self,
        config: TrainingConfig,
        param_names: Sequence[str] = ("weight", "bias"),
        param_size: int = 8,
        seed: int = 0,
    ) -> None:
        """Say what to make up.

        Args:
            config: Its steps and batch size tell the samples of an update.
            param_names: Parameter names.
            param_size: Length of each parameter's vector.
            seed: 0 or more.
        """
        self._names, self._size, self._seed = tuple(param_names), param_size, seed
        self._samples = config.local_steps * config.batch_size

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Make up one round's updates.

        Args:
            round_id: The round, from 1.
            state: Not looked at.
            nodes: The nodes; what one reports follows from its place in this list.

        Returns:
            One update per node: float64 arrays, and their loss in the bowl.
        """
        start = self._gaussian(_START)
        return [
            self._update(node.node_id, round_id, start + _NOISE * self._gaussian(_NODE, round_id, place))
            for place, node in enumerate(nodes)
        ]

    def _update(self, node_id: str, round_id: int, seen: NDArray[np.float64]) -> LocalUpdate:
        gradients = seen / np.sqrt(round_id)
        return LocalUpdate(
            node_id=node_id,
            round_id=round_id,
            gradients=dict(zip(self._names, gradients, strict=True)),
            loss=float(np.mean(np.square(gradients)) / 2),
            samples_used=self._samples,
        )

    def _gaussian(self, *key: int) -> NDArray[np.float64]:
        return np.random.default_rng((self._seed, *key)).normal(size=(len(self._names), self._size))
