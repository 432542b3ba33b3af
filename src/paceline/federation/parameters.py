"""Between a swarm's flat vector and the vectors by parameter name that the federated API speaks of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from paceline.core.config import GptConfig
from paceline.core.vectors import Vector
from paceline.learning.flat import Flat, named_slices
from paceline.learning.model import num_parameters, parameter_shapes


def by_name(model: GptConfig, flat: Flat) -> dict[str, Flat]:
    """Cut a flat vector into one vector per parameter.

    Args:
        model: The model that it belongs to.
        flat: float32 `[num_elements]`.

    Returns:
        A view of the vector for each parameter, 1-D, sorted by name.
    """
    return {name: part.reshape(-1) for name, part in named_slices(parameter_shapes(model), flat).items()}


def flatten(model: GptConfig, vectors: Mapping[str, Vector]) -> Flat:
    """Put vectors by parameter name into one flat vector.

    Args:
        model: The model that they must belong to.
        vectors: A vector for each parameter, flattened in C order: lists, arrays or tensors.

    Returns:
        float32 `[num_elements]`.

    Raises:
        ValueError: They are not those of the model; names the first key that does not fit, and lengths.
    """
    needed = {name: math.prod(shape) for name, shape in parameter_shapes(model).items()}
    for key in sorted(needed.keys() | vectors.keys()):
        if key not in vectors:
            raise ValueError(f"nothing under {key!r}, where the model needs {needed[key]} values")
        length = len(vectors[key])
        if key not in needed:
            raise ValueError(f"{length} values under {key!r}, which the model does not know")
        if length != needed[key]:
            raise ValueError(f"{length} values under {key!r}, where the model needs {needed[key]}")
    flat = np.empty(num_parameters(model), np.float32)
    for name, part in by_name(model, flat).items():
        part[:] = np.asarray(_readable(vectors[name]))
    return flat


def _readable(vector: Any) -> ArrayLike:
    # numpy reads no tensor that lives on a device, or is of a type that numpy lacks.
    found: ArrayLike = vector.detach().float().cpu().numpy() if isinstance(vector, torch.Tensor) else vector
    return found
