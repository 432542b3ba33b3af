"""The mean of what the nodes report: the swarm's aggregator, applied to updates by parameter name.

>>> updates = [
...     LocalUpdate(node_id=node, round_id=1, gradients={"w": [value]}, loss=0.0, samples_used=1)
...     for node, value in (("n1", 1.0), ("n2", 4.0))
... ]
>>> GradientAverager().average(updates)
{'w': [2.5]}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from paceline.core.vectors import Dense, first_not_finite
from paceline.federation.models import LocalUpdate
from paceline.learning.aggregate import weighted_mean

Array = NDArray[np.float32] | NDArray[np.float64]


class GradientAverager:
    """Averages gradients element-wise over all nodes, each with the same weight.

    A node that does not report a parameter counts as zeros of the length that the first reporter gives.

    Guarantees:
        What averages lists gives lists and what averages arrays gives an array.
        The mean shares no memory with the updates.
    """

    def average(self, updates: list[LocalUpdate]) -> dict[str, list[float]]:
        """Compute the element-wise mean of the gradients of all updates.

        Args:
            updates: One update per participating node. Vectors `[n]` under one key have one length.

        Returns:
            Averaged vector by parameter name, sorted by name. A list, averaged in float64, where all who
            report the name gave lists; otherwise a numpy array: float32 when all gave float32 or less,
            float64 when anybody gave more, or a list.

        Raises:
            ValueError: There are no updates, the lengths under one name differ, or a value is not finite.
        """
        if not updates:
            raise ValueError("Cannot average an empty list of updates.")
        names = sorted({name for update in updates for name in update.gradients})
        return {name: _mean(name, updates) for name in names}


def as_array(vector: list[float] | Dense) -> Array:
    """See a vector as a numpy array in host memory.

    Args:
        vector: A list, or a 1-D array or tensor of floats, on any device.

    Returns:
        `[n]`: float64 for a list; float32 for 16 and 32 bit floats, float64 for 64 bit ones. It shares memory
        with an array or tensor wherever it can.
    """
    if isinstance(vector, list):
        return np.array(vector, np.float64)
    given: Any = vector
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if given.dtype.itemsize < 4 else given  # numpy has no bfloat16
    array: NDArray[Any] = np.asarray(given)
    if array.dtype.itemsize > 4:
        return array.astype(np.float64, copy=False)
    return array.astype(np.float32, copy=False)


def _mean(name: str, updates: Sequence[LocalUpdate]) -> list[float]:
    _check_lengths(name, updates)
    vectors = [update.gradients.get(name) for update in updates]
    arrays: Any = [None if vector is None else as_array(vector) for vector in vectors]
    if len({array.dtype for array in arrays if array is not None}) > 1:
        arrays = [None if array is None else array.astype(np.float64, copy=False) for array in arrays]
    mean = weighted_mean(arrays, (1,) * len(updates))
    if not np.isfinite(mean).all():
        _blame(name, updates)
    in_lists = all(vector is None or isinstance(vector, list) for vector in vectors)
    return cast("list[float]", mean.tolist() if in_lists else mean)


def _check_lengths(name: str, updates: Sequence[LocalUpdate]) -> None:
    first: LocalUpdate | None = None
    for update in updates:
        if name not in update.gradients:
            continue
        first = first or update
        ours, due = len(update.gradients[name]), len(first.gradients[name])
        if ours != due:
            raise ValueError(
                f"{name!r} has {due} values at node {first.node_id!r} and {ours} at node {update.node_id!r}"
            )


def _blame(name: str, updates: Sequence[LocalUpdate]) -> None:
    # An update was finite when it was made; whoever changed its vectors since is told here.
    for update in updates:
        vector = update.gradients.get(name)
        place = None if vector is None else first_not_finite(vector)
        if place is not None:
            raise ValueError(f"node {update.node_id!r}: value {place} under {name!r} is not finite")
    raise ValueError(f"the mean under {name!r} is too large for its type of float")
