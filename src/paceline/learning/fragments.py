"""Fragments: the parts of a model that take turns in being exchanged (Streaming DiLoCo, arXiv 2501.18512).

Of P fragments, block b is in fragment b mod P, the embedding in the first and the last norm in the last one.
A fragment's vector holds its parameters in the order of the whole flat vector.

    >>> from paceline.core.config import GptConfig
    >>> halves = cut(GptConfig(dim=16, layers=3, heads=2), 2)
    >>> [sorted({name.split(".")[1] for name in half.names if name.startswith("blocks")}) for half in halves]
    [['0', '2'], ['1']]
    >>> halves[0].take(np.arange(halves[0].num_whole, dtype=np.float32)).shape == (halves[0].num_elements,)
    True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from paceline.core.config import GptConfig
from paceline.learning.flat import Flat, check_flat
from paceline.learning.model import parameter_shapes


class Fragment:
    """Some of a model's parameters, as a flat vector of their own.

    Attributes:
        names: Names of its parameters, sorted.
        num_elements: Length of its vector.
        num_whole: Length of the whole model's vector.
        spans: Where its values lie in the whole vector: slices in order that neither touch nor overlap.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], names: frozenset[str]) -> None:
        """Find the places of some parameters.

        Args:
            shapes: Shape of every parameter of the model by name.
            names: Those of the fragment.
        """
        self.names = tuple(sorted(names))
        spans: list[slice] = []
        start = 0
        for name, shape in sorted(shapes.items()):
            end = start + math.prod(shape)
            if name in names:
                touches = spans and spans[-1].stop == start
                spans[-1:] = [slice(spans[-1].start, end)] if touches else [*spans[-1:], slice(start, end)]
            start = end
        self.spans = tuple(spans)
        self.num_elements: int = sum(span.stop - span.start for span in spans)
        self.num_whole = start

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole model."""
        return self.num_elements == self.num_whole

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """Go through its spans.

        Yields:
            The place of a span in the whole vector, and in the fragment's.
        """
        start = 0
        for span in self.spans:
            end = start + span.stop - span.start
            yield span, slice(start, end)
            start = end

    def take(self, whole: Flat) -> Flat:
        """Cut the fragment out of a whole vector.

        Args:
            whole: float32 `[num_whole]`.

        Returns:
            A copy, float32 `[num_elements]`.
        """
        check_flat(whole, self.num_whole)
        return np.concatenate([whole[span] for span in self.spans])

    def put(self, values: Flat, whole: Flat) -> None:
        """Copy a fragment's values to their places in a whole vector.

        Args:
            values: float32 `[num_elements]`.
            whole: float32 `[num_whole]`; what is of other fragments stays.
        """
        check_flat(values, self.num_elements)
        check_flat(whole, self.num_whole)
        for there, here in self.pieces():
            whole[there] = values[here]

    def keep_only(self, whole: Flat) -> None:
        """Set to zero what is of other fragments.

        Args:
            whole: float32 `[num_whole]`, changed in place.
        """
        done = 0
        for span in self.spans:
            whole[done : span.start] = 0
            done = span.stop
        whole[done:] = 0


def cut(model: GptConfig, num_fragments: int) -> tuple[Fragment, ...]:
    """Cut a model into fragments.

    Args:
        model: The model's shape.
        num_fragments: P, at most its blocks.

    Returns:
        The fragments; every parameter is in exactly one.
    """
    shapes = parameter_shapes(model)
    places = {name: _place(name, num_fragments) for name in shapes}
    return tuple(
        Fragment(shapes, frozenset(name for name, place in places.items() if place == fragment))
        for fragment in range(num_fragments)
    )


def largest(model: GptConfig, num_fragments: int) -> int:
    """Tell how long a fragment's vector is at most.

    Args:
        model: The model's shape.
        num_fragments: P.

    Returns:
        Floats.
    """
    return max(fragment.num_elements for fragment in cut(model, num_fragments))


def _place(name: str, num_fragments: int) -> int:
    kind, _, rest = name.partition(".")
    if kind == "blocks":
        return int(rest.partition(".")[0]) % num_fragments
    return 0 if kind == "embedding" else num_fragments - 1
