"""One part of a member's own slice on its way to its mean.

Values are added up as they come, but in roster order: what comes too early waits, still encoded. So neither
the bits nor the memory depend on who is fast, and no member's values are ever decoded all at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault, Payload
from paceline.network.group import Group


class PartSum:
    """The sum of one part, as far as it has got.

    Guarantees:
        A sum that grows has the bits of the aggregate of all values at once.

    Attributes:
        busy: Whether somebody is at work on it; kept by the reducer.
    """

    def __init__(self, group: Group, part: int) -> None:
        self.busy = False
        self._group = group
        self._part = part
        self._waiting: dict[int, Payload] = {}
        self._next = 0
        self._total: NDArray[np.float32] | None = None
        self._values: list[NDArray[np.float32] | None] = []

    def put(self, place: int, payload: Payload) -> None:
        """Hand over a member's values.

        Args:
            place: Its place in the roster.
            payload: Untrusted bytes; they are looked at when it is their turn. Empty if it has no weight.
        """
        self._waiting[place] = payload

    def can_go_on(self) -> bool:
        """Tell whether `go_on` would find something to do.

        Returns:
            Whether the values that are next in roster order are here, or our own are next.
        """
        return self._next < len(self._group.order.roster) and self._is_here(self._next)

    def go_on(self) -> Payload | None:
        """Add whatever can be added; slow, for the pool, and for one thread at a time.

        Returns:
            The encoded mean, once everybody's values are in it; the buffer then holds it, too.

        Raises:
            Fault: Somebody's values are none, and whose.
        """
        while self.can_go_on():
            place = self._next
            if self._group.order.weights[place]:
                self._add(place)
            elif self._group.terms.arithmetic.factors is None:
                self._values.append(None)
            self._waiting.pop(place, None)
            self._next += 1
        return self._mean() if self._next == len(self._group.order.roster) else None

    def _is_here(self, place: int) -> bool:
        return place == self._group.place or place in self._waiting

    def _add(self, place: int) -> None:
        group = self._group
        try:
            # Our own go through the codec like everybody's, so that place is irrelevant.
            own = place == group.place
            payload = group.encode(place, self._part) if own else self._waiting[place]
            self._add_encoded(place, payload)
        except ValueError as error:
            peer = group.peer(place)
            raise Fault(f"{named(peer)} sent {error}", peer) from error

    def _add_encoded(self, place: int, payload: Payload) -> None:
        group, length = self._group, self._group.part_length(self._group.place, self._part)
        arithmetic = group.terms.arithmetic
        if arithmetic.factors is None:
            self._values.append(arithmetic.codec.decode(payload, length))
            return
        if self._total is None:
            self._total = np.full(length, -0.0, np.float32)  # plus anything is just that, even -0.0
        factor = float(arithmetic.factors(group.order.weights)[place])
        arithmetic.codec.accumulate(payload, length, factor, self._total)

    def _mean(self) -> Payload:
        group, arithmetic = self._group, self._group.terms.arithmetic
        mean = self._total
        if mean is None:
            mean = arithmetic.aggregate(self._values, group.order.weights)
        self._total, self._values = None, []
        try:
            payload = group.encode_mean(mean)
        except ValueError as error:  # of finite values
            cause = f"this peer's slice can't be averaged: the mean is too large for float32 ({error})"
            raise Fault(cause, group.terms.me) from error
        group.store(group.place, self._part, payload)
        return payload
