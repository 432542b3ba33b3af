"""The outer step: SGD with Nesterov momentum on the averaged pseudo-gradient, in host memory.

    m ← μ m + g
    θ ← θ − η (g + μ m)

as in DiLoCo (arXiv 2311.08105). All peers must get the same bits, so every multiplication and every addition
is rounded to float32 on its own, as IEEE 754 prescribes; nothing is fused, and μ and η are float32 as well.

    >>> state = OuterState(np.ones(4, np.float32), np.zeros(4, np.float32), OuterConfig(lr=0.5, momentum=0.0))
    >>> digests = state.preview(np.ones(4, np.float32))
    >>> state.apply(np.ones(4, np.float32)) == digests
    True
    >>> float(state.anchor[0])
    0.5
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from paceline.core.config import OuterConfig
from paceline.core.digest import CHUNK_BYTES, ChunkedDigest
from paceline.core.errors import NotFinite
from paceline.learning.flat import Flat, check_flat
from paceline.learning.fragments import Fragment

_CHUNK = CHUNK_BYTES // 4 // 4  # four work arrays together stay in a core's own cache


class Digests(NamedTuple):
    """What identifies the state after a round."""

    weights: str
    """Digest of the anchor's bytes, 64 hexadecimal digits."""
    momentum: str
    """Digest of the momentum's bytes, 64 hexadecimal digits."""


class OuterState:
    """Anchor and outer momentum: what all peers agree on after every round.

    Guarantees:
        A preview changes nothing and gives the digests that the step will leave.
        An average that would leave a non-finite state is refused and changes nothing.
        No whole vector is ever copied.

    Attributes:
        anchor: The agreed weights, float32 `[num_elements]`; changed in place by `apply`.
        momentum: The outer momentum, float32 `[num_elements]`; changed in place by `apply`.
    """

    def __init__(self, anchor: Flat, momentum: Flat, config: OuterConfig) -> None:
        check_flat(anchor, anchor.size)
        check_flat(momentum, anchor.size)
        self.anchor = anchor
        self.momentum = momentum
        self._lr = np.float32(config.lr)
        self._decay = np.float32(config.momentum)

    def digests(self) -> Digests:
        """Identify the present state.

        Returns:
            The digests of anchor and momentum.
        """
        return _digests((self.anchor[part], self.momentum[part]) for part in self._parts())

    def preview(self, average: Flat) -> Digests:
        """Tell what state `apply` would leave, without applying anything.

        Args:
            average: Mean pseudo-gradient, float32 `[num_elements]`.

        Returns:
            The digests of the anchor and momentum that the step would leave.

        Raises:
            NotFinite: The average would leave a state that is not finite.
            ValueError: The average has the wrong type or size.
        """
        check_flat(average, self.anchor.size)
        return _digests(self._step(average[part], part) for part in self._parts())

    def apply(self, average: Flat) -> Digests:
        """Take the outer step, in place.

        Args:
            average: Mean pseudo-gradient, float32 `[num_elements]`; left as it is.

        Returns:
            The digests of the new anchor and momentum.

        Raises:
            NotFinite: The average would leave a state that is not finite.
            ValueError: The average has the wrong type or size.
        """
        self._check(average)
        return _digests(self._replace(average, part) for part in self._parts())

    def steps(self, average: Flat, fragment: Fragment | None = None) -> Iterator[tuple[slice, Flat, Flat]]:
        """Compute, piece by piece, the state that `apply` would leave, without applying anything.

        Args:
            average: Mean pseudo-gradient, float32 `[num_elements]`, of the model or of the fragment.
            fragment: What of the model takes the step; all of it when left out.

        Yields:
            A slice of the vectors, with the new anchor and the new momentum there; all slices, in order, also
            those that stay as they are.

        Raises:
            NotFinite: The average would leave a state that is not finite.
            ValueError: The average has the wrong type or size.
        """
        if fragment is not None and not fragment.is_whole:
            yield from self._steps_of(average, fragment)
            return
        check_flat(average, self.anchor.size)
        for part in self._parts():
            yield part, *self._step(average[part], part)

    def _steps_of(self, average: Flat, fragment: Fragment) -> Iterator[tuple[slice, Flat, Flat]]:
        check_flat(average, fragment.num_elements)
        done = 0
        for there, here in fragment.pieces():
            yield from self._untouched(done, there.start)
            for part in _cut(there.start, there.stop):
                first = here.start + part.start - there.start
                yield part, *self._step(average[first : first + part.stop - part.start], part)
            done = there.stop
        yield from self._untouched(done, self.anchor.size)

    def _untouched(self, start: int, stop: int) -> Iterator[tuple[slice, Flat, Flat]]:
        return ((part, self.anchor[part], self.momentum[part]) for part in _cut(start, stop))

    def _parts(self) -> Iterator[slice]:
        return _cut(0, self.anchor.size)

    # Infinite or NaN bits differ between platforms, and momentum would keep them for ever.
    def _check(self, average: Flat) -> None:
        check_flat(average, self.anchor.size)
        for part in self._parts():
            self._step(average[part], part)

    def _replace(self, average: Flat, part: slice) -> tuple[Flat, Flat]:
        self.anchor[part], self.momentum[part] = self._step(average[part], part)
        return self.anchor[part], self.momentum[part]

    def _step(self, gradient: Flat, part: slice) -> tuple[Flat, Flat]:
        with np.errstate(over="ignore", invalid="ignore"):
            momentum = np.multiply(self.momentum[part], self._decay)
            momentum += gradient
            step = np.multiply(momentum, self._decay)
            step += gradient
            step *= self._lr
            anchor = np.subtract(self.anchor[part], step, out=step)
        if not (np.isfinite(momentum).all() and np.isfinite(anchor).all()):
            raise NotFinite("the average would leave a state that is not finite")
        return anchor, momentum


def _cut(start: int, stop: int) -> Iterator[slice]:
    return (slice(at, min(at + _CHUNK, stop)) for at in range(start, stop, _CHUNK))


def _digests(parts: Iterator[tuple[Flat, Flat]]) -> Digests:
    weights, momentum = ChunkedDigest(), ChunkedDigest()
    for weights_part, momentum_part in parts:
        weights.update(weights_part.data)
        momentum.update(momentum_part.data)
    return Digests(weights.hexdigest(), momentum.hexdigest())
