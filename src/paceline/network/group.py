"""What the parts of one attempt share: its terms, its buffer, and how it stands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from paceline.network.butterfly import Arithmetic, Codec, Fault, Payload, ReduceOrder, Slices

T = TypeVar("T")


@dataclass(frozen=True)
class Terms:
    """What an averager brings to every attempt.

    Attributes:
        me: Its peer id.
        arithmetic: What it computes.
        buffer: `[num_elements]`: values before, mean after.
        pool: Where encoding and arithmetic run.
    """

    me: str
    arithmetic: Arithmetic
    buffer: NDArray[np.float32]
    pool: Executor


class Group:
    """One attempt as this member sees it.

    Attributes:
        order: What is to be done.
        terms: With what.
        place: This member's place in the roster.
        slices: How the vector is cut.
        failed: Done as soon as the attempt can't succeed for anybody; its result is the fault.
        missed: The first fault of any kind, also one that spoils the result for this member only.
        bytes_in: Payload received.
        bytes_out: Payload sent.
    """

    def __init__(self, order: ReduceOrder, terms: Terms) -> None:
        self.order = order
        self.terms = terms
        self.place = order.roster.index(terms.me)
        arithmetic = terms.arithmetic
        length = len(terms.buffer) if order.num_elements is None else order.num_elements
        self.slices = Slices(length, len(order.roster), arithmetic.part_elements, arithmetic.grain)
        self.failed: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()
        self.missed: Fault | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self._open = True
        self._stores = 0
        self._storing = threading.Condition()

    @property
    def others(self) -> list[int]:
        """Places of all other members."""
        return [place for place in range(len(self.order.roster)) if place != self.place]

    def peer(self, place: int) -> str:
        """Name a member.

        Args:
            place: Its place in the roster.

        Returns:
            Its peer id.
        """
        return self.order.roster[place]

    def fail(self, fault: Fault) -> None:
        """Give the attempt up, for everybody; the first fault counts.

        Args:
            fault: Why.
        """
        self.miss(fault)
        if not self.failed.done():
            self.failed.set_result(fault)

    def miss(self, fault: Fault) -> None:
        """Note that this member won't hold the whole mean, though others may; the first fault counts.

        Args:
            fault: Why.
        """
        self.missed = self.missed or fault

    def store(self, place: int, part: int, payload: Payload) -> None:
        """Decode a mean to where its values were; slow, for the pool.

        Args:
            place: Whose slice.
            part: Which part of it.
            payload: Untrusted bytes. They are not looked at when the attempt is over: then the buffer is
                the caller's.

        Raises:
            ValueError: The payload is of another size, or holds a value that is not finite.
        """
        with self._storing:
            if not self._open:
                return
            self._stores += 1
        try:
            back = self.terms.arithmetic.codec.back
            back.decode_into(payload, self.terms.buffer[self.slices.part(place, part)])
        finally:
            with self._storing:
                self._stores -= 1
                self._storing.notify_all()

    def close(self) -> None:
        """Touch the buffer no more. What is being decoded to it is waited for: milliseconds."""
        with self._storing:
            self._open = False
            self._storing.wait_for(lambda: not self._stores)

    def part_length(self, place: int, part: int) -> int:
        """Count the values of a part.

        Args:
            place: Whose slice.
            part: Which part of it.

        Returns:
            Values.
        """
        span = self.slices.part(place, part)
        return int(span.stop - span.start)

    def encode(self, place: int, part: int) -> Payload:
        """Encode our own values of a part; slow, for the pool.

        Args:
            place: Whose slice.
            part: Which part of it.

        Returns:
            The payload.

        Raises:
            ValueError: A value is not finite.
        """
        return _encoded(self.terms.arithmetic.codec, self.terms.buffer[self.slices.part(place, part)])

    def encode_mean(self, mean: NDArray[np.float32]) -> Payload:
        """Encode the mean of a part; slow, for the pool.

        Args:
            mean: Its values.

        Returns:
            The payload.

        Raises:
            ValueError: A value is not finite.
        """
        return _encoded(self.terms.arithmetic.codec.back, mean)

    async def in_pool(self, work: Callable[..., T], *args: object) -> T:
        """Run slow work beside the event loop.

        Args:
            work: A function.
            args: Its arguments.

        Returns:
            What it returns.
        """
        return await asyncio.get_running_loop().run_in_executor(self.terms.pool, lambda: work(*args))


def _encoded(codec: Codec, values: NDArray[np.float32]) -> Payload:
    room = np.empty(codec.encoded_size(values.size), np.uint8)
    return room[: codec.encode_into(values, room)].data
