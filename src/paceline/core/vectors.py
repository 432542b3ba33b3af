"""Vectors of floats, in whatever form they come: a list, or an array or tensor taken as it is.

Who trains holds arrays and tensors; who reads a JSON file holds lists. A model with a `Vector` takes both. A
1-D array or tensor of floats stays the very object that was given, so that millions of values are not turned
into Python floats on their way; it becomes a list only where it is written.

Nothing here imports numpy or torch: an array is known by its `ndim`.

    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(Vector).validate_python((1, 2.5))
    [1.0, 2.5]
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, PlainSerializer, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator


class Dense(Protocol):
    """What an array or a tensor can do that matters here."""

    @property
    def ndim(self) -> int:
        """Number of dimensions; 1 for a vector."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice, /) -> Any: ...

    def tolist(self) -> Any:
        """Turn it into Python numbers.

        Returns:
            For a vector of floats, a list of floats.
        """


def as_list(vector: list[float] | Dense) -> list[float]:
    """Spell a vector as a list.

    Args:
        vector: A list, or a 1-D array or tensor.

    Returns:
        Its values; the very list when it is one.
    """
    if isinstance(vector, list | tuple):
        return vector if isinstance(vector, list) else list(vector)
    values: list[float] = vector.tolist()
    return values


def alike(one: BaseModel, other: BaseModel) -> bool:
    """Compare models that hold vectors: arrays and tensors have no one answer to `==`.

    Args:
        one: A model.
        other: Another one of the same kind.

    Returns:
        Whether all fields are equal; a vector equals another with the same values, in whatever form.
    """
    return one.model_dump() == other.model_dump()


def first_not_finite(vector: list[float] | Dense) -> int | None:
    """Look for infinity and NaN.

    Args:
        vector: A list, or a 1-D array or tensor of floats.

    Returns:
        The place of the first value that is not finite, from 0; None when all are.
    """
    if _surely_finite(vector):
        return None
    places = (place for place, value in enumerate(as_list(vector)) if not math.isfinite(value))
    return next(places, None)


def _surely_finite(vector: Any) -> bool:
    # One pass without a Python float per value. A sum that overflows only asks for the slow look.
    if isinstance(vector, list):
        return math.isfinite(sum(vector))
    # NaN wins every comparison of `min` and `max`, in numpy as in torch.
    return not len(vector) or all(math.isfinite(end.item()) for end in (vector.min(), vector.max()))


def _take(value: Any, of_list: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    if not hasattr(value, "ndim") or not hasattr(value, "dtype"):
        return of_list(value)
    if value.ndim != 1:
        raise ValueError(f"a vector has 1 dimension, not {value.ndim}")
    if not _holds_floats(value.dtype):
        return of_list(value.tolist())
    if info.config and info.config.get("allow_inf_nan") is False:
        place = first_not_finite(value)
        if place is not None:
            raise ValueError(f"the value at {place} is not finite")
    return value


def _holds_floats(dtype: Any) -> bool:
    # torch says so itself; numpy's kind is "f", and its long doubles are no floats of Python's.
    of_torch = getattr(dtype, "is_floating_point", False)
    return bool(of_torch or getattr(dtype, "kind", "") == "f") and dtype.itemsize <= 8


Vector = Annotated[list[float], WrapValidator(_take), PlainSerializer(as_list, return_type=list[float])]
"""A list of floats; or a 1-D array or tensor of floats, which stays as it is until it is written.

In type annotations it is the list that the fedtrain API documents. numpy's functions take either."""
