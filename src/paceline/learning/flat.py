"""The border between a model and the flat vector that the rest of paceline knows.

The flat vector holds all parameters in float32, ordered by parameter name, each flattened in C order. It
lives in host memory; the model lives wherever it is trained. Every copy between the two is made here.

    >>> from paceline.core.config import GptConfig
    >>> from paceline.learning.model import build_model
    >>> view = FlatView(build_model(GptConfig(dim=16, layers=1, heads=2), seed=0))
    >>> flat = np.empty(view.num_elements, np.float32)
    >>> view.read(flat)
    >>> view.write(flat)
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Flat = NDArray[np.float32]
"""All parameters in one vector, float32 `[num_elements]`, in host memory."""


def named_slices(shapes: Mapping[str, tuple[int, ...]], flat: Flat) -> dict[str, Flat]:
    """Cut a flat vector into parameters.

    Args:
        shapes: Shape by name, in any order.
        flat: float32 `[num_elements]`.

    Returns:
        A view of the vector for each name, in the parameter's shape, sorted by name.

    Raises:
        ValueError: The vector is not a contiguous float32 one of the shapes' total size.
    """
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    check_flat(flat, total)
    views, start = {}, 0
    for name, shape in sorted(shapes.items()):
        end = start + int(np.prod(shape, dtype=np.int64))
        views[name] = flat[start:end].reshape(shape)
        start = end
    return views


def check_flat(flat: Flat, num_elements: int) -> None:
    """Refuse what is not a flat vector of the right size.

    Args:
        flat: What claims to be one.
        num_elements: How long it has to be.

    Raises:
        ValueError: It is not contiguous float32 `[num_elements]`.
    """
    if flat.dtype != np.float32 or flat.shape != (num_elements,) or not flat.flags.c_contiguous:
        raise ValueError(f"expected contiguous float32 [{num_elements}], got {flat.dtype} {list(flat.shape)}")


class FlatView:
    """A model's parameters, or some of them, as one flat vector.

    Guarantees:
        A parameter at a time is copied, never the whole model.

    Attributes:
        shapes: Shape of each parameter by name, sorted by name.
        num_elements: Length of the flat vector.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        self._parameters = {
            name: part for name, part in sorted(model.named_parameters()) if names is None or name in names
        }
        self.shapes = {name: tuple(part.shape) for name, part in self._parameters.items()}
        self.num_elements = sum(part.numel() for part in self._parameters.values())

    def named(self, flat: Flat) -> dict[str, Flat]:
        """Cut a flat vector into this model's parameters.

        Args:
            flat: float32 `[num_elements]`.

        Returns:
            A view of the vector for each parameter, in its shape, sorted by name.
        """
        return named_slices(self.shapes, flat)

    def read(self, out: Flat) -> None:
        """Copy the model's weights into a flat vector, from whatever device it is on.

        Args:
            out: float32 `[num_elements]`, overwritten.
        """
        for parameter, part in self._pairs(out):
            torch.from_numpy(part).copy_(parameter)

    @torch.no_grad()
    def write(self, flat: Flat) -> None:
        """Copy a flat vector into the model, onto whatever device it is on.

        Args:
            flat: float32 `[num_elements]`; may be read-only.
        """
        for parameter, part in self._pairs(flat):
            # torch has no read-only tensors and warns of read-only memory.
            parameter.copy_(torch.from_numpy(part if part.flags.writeable else part.copy()))

    def _pairs(self, flat: Flat) -> Iterator[tuple[torch.Tensor, Flat]]:
        views = self.named(flat)
        for name, parameter in self._parameters.items():
            yield parameter.detach(), views[name]


def standing_on(model: nn.Module, flat: Flat) -> nn.Module:
    """Make a model that has the weights of a flat vector, beside one that is being trained.

    Guarantees:
        A model that stands on a flat vector takes no memory of its own on the CPU.

    Args:
        model: What it is to be like; only read.
        flat: float32 `[num_elements]`: on the CPU its own memory, on another device a copy.

    Returns:
        The model, on the same device and in the same mode, to be measured rather than trained.
    """
    named = FlatView(model).named(flat)
    parts: dict[int, object] = {id(buffer): buffer for buffer in model.buffers()}
    for name, parameter in model.named_parameters():
        weights = torch.from_numpy(named[name]).to(parameter.device)
        parts[id(parameter)] = nn.Parameter(weights, requires_grad=False)
    return copy.deepcopy(model, parts)
