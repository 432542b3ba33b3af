"""Aggregators: the rules that combine what the members of a round report into one vector.

An aggregator is called with one vector per member, in roster order (None for who reports nothing), and one
weight per member. Whoever needs the mean takes it from here: the reducers of a swarm are handed it by
`paceline.peer.compose`, and `paceline.federation` calls it itself.

    >>> weighted_mean([np.float32([1, 2]), np.float32([3, 6])], (1, 3)).tolist()
    [2.5, 5.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatT = TypeVar("FloatT", bound="np.floating[Any]")


def shares(weights: Sequence[int], kind: type[FloatT]) -> tuple[FloatT, ...]:
    """Turn weights into factors: normalised in float64, then rounded, on every platform alike.

    Args:
        weights: Samples per member, not all 0.
        kind: Type of the factors.

    Returns:
        One factor per member; together 1, up to rounding.
    """
    total = sum(weights)
    return tuple(kind(weight / total) for weight in weights)


def mean_factors(weights: Sequence[int]) -> tuple[np.float32, ...]:
    """Tell by what `weighted_mean` multiplies float32 values before it adds them up, in roster order.

    Args:
        weights: Samples per member, not all 0.

    Returns:
        One factor per member.
    """
    return shares(weights, np.float32)


def weighted_mean(inputs: Sequence[NDArray[FloatT] | None], weights: Sequence[int]) -> NDArray[FloatT]:
    """Average in roster order, each product and each sum rounded on its own, in the type of the inputs.

    In float32, whose bits the peers of a swarm agree on, each vector is multiplied by its share. In float64
    the division comes last, so that ten ones average to 1, and equal weights give just what adding the values
    up and dividing by their number gives; only where that sum would be infinite does it go by shares as well.

    Args:
        inputs: Values per member, all `[n]` and all float32 or all float64; None for a member that
            contributes nothing.
        weights: Samples per member, not all 0.

    Returns:
        `[n]`: the same bits on every platform, since IEEE 754 defines every step. Infinite where values
        near the type's limit add up to more.
    """
    kind: Any = next(values.dtype.type for values in inputs if values is not None)
    if kind is not np.float64:
        return _sum(inputs, shares(weights, kind))
    mean = _sum(inputs, [kind(weight) for weight in weights])
    np.divide(mean, sum(weights), out=mean)
    finite = np.isfinite(mean)
    return mean if finite.all() else np.where(finite, mean, _sum(inputs, shares(weights, kind)))


def _sum(inputs: Sequence[NDArray[FloatT] | None], factors: Sequence[Any]) -> NDArray[FloatT]:
    total: NDArray[FloatT] | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for values, factor in zip(inputs, factors, strict=True):
            if values is not None:
                term = values * factor
                total = term if total is None else np.add(total, term, out=total)
    assert total is not None, "at least one member has weight"
    return total
