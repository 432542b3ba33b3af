"""What an all-reduce computes, and the words around it; nothing here touches a network.

The flat vector is cut into one contiguous *slice* per member; member i is the *reducer* of slice i. A slice
travels in *parts*. Every member sends each reducer its values of that reducer's slice, the reducer averages
them part by part, encodes each mean once, and sends the same bytes to everybody; it decodes them itself too.
So all members hold identical bits, whatever the codec loses:

    through(x) = decode(encode(x))
    result = through_back(aggregate(through(values) of each member))

where the mean may travel by a codec of its own, the *back* one. That depends on values, weights and roster
only, not on who reduces what or what arrives first: slices and parts are cut at multiples of the codec's
*grain*, so that a vector is encoded in the same blocks however it is cut.

    >>> slices = Slices(num_elements=10, num_members=3, part_elements=2)
    >>> [slices.bounds(member) for member in range(3)], slices.num_parts(1)
    ([(0, 3), (3, 6), (6, 10)], 2)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PART_ELEMENTS = 1 << 20
"""Values per part: 4 MiB in fp32. Smaller parts cost more processor time, larger ones more memory
(`docs/performance.md`)."""


Payload = bytes | memoryview
"""Encoded values."""


class Codec(Protocol):
    """How values travel. Equal bytes become equal values on every peer.

    Attributes:
        name: The name that a run's configuration gives it.
        grain: How many values are encoded together.
        back: How the mean travels; it may be the codec itself.
    """

    @property
    def name(self) -> str:
        """The name that a run's configuration gives it."""

    @property
    def grain(self) -> int:
        """How many values are encoded together."""

    @property
    def back(self) -> Codec:
        """How the mean travels; it may be the codec itself."""

    def encoded_size(self, num_elements: int, /) -> int:
        """Tell how long `encode` makes so many values at most.

        Args:
            num_elements: Number of values.

        Returns:
            Bytes.
        """

    def encode(self, values: NDArray[np.float32], /) -> bytes:
        """Pack values.

        Args:
            values: `[n]`, finite.

        Returns:
            At most `encoded_size(n)` bytes.

        Raises:
            ValueError: A value is not finite.
        """

    def encode_into(self, values: NDArray[np.float32], out: NDArray[np.uint8], /) -> int:
        """Pack values where there is room for them.

        Args:
            values: `[n]`, finite.
            out: Room for `encoded_size(n)` bytes.

        Returns:
            How many bytes were written.

        Raises:
            ValueError: A value is not finite.
        """

    def decode(self, payload: Payload, num_elements: int, /) -> NDArray[np.float32]:
        """Unpack values that came from anybody.

        Args:
            payload: Untrusted bytes.
            num_elements: How many values it must hold.

        Returns:
            `[num_elements]`, all finite.

        Raises:
            ValueError: Wrong length, or a value that is not finite.
        """

    def decode_into(self, payload: Payload, out: NDArray[np.float32], /) -> None:
        """Unpack values that came from anybody where they belong.

        Args:
            payload: Untrusted bytes.
            out: `[n]`, overwritten; as it was when the bytes are refused.

        Raises:
            ValueError: Wrong length, or a value that is not finite.
        """

    def accumulate(
        self, payload: Payload, num_elements: int, weight: float, into: NDArray[np.float32], /
    ) -> None:
        """Add weighted values that came from anybody: `into` += `weight` · `decode(payload)`.

        Args:
            payload: Untrusted bytes.
            num_elements: How many values it must hold.
            weight: A float32 number.
            into: `[num_elements]`, changed in place; as it was when the bytes are refused.

        Raises:
            ValueError: Wrong length, or a value that is not finite.
        """


Aggregator = Callable[[Sequence[NDArray[np.float32] | None], Sequence[int]], NDArray[np.float32]]
"""How members' values become one: called with values `[n]` per member, in roster order (None for a member of
weight 0), and with everybody's weights; returns `[n]`. Deterministic like a codec, and element by element:
the vector reaches it in parts."""
Factors = Callable[[Sequence[int]], Sequence[np.float32]]
"""What each member's values are multiplied by, given everybody's weights, where the aggregate is but the sum
of these products, in roster order."""


@dataclass(frozen=True)
class Arithmetic:
    """What is computed in an all-reduce; the same for all members.

    Attributes:
        codec: How values travel.
        aggregate: How members' values become one.
        part_elements: Values per part, a multiple of the grain.
        factors: Given when the aggregate is such a sum: then values are added up as they come, which takes
            less time and memory and gives the same bits.
    """

    codec: Codec
    aggregate: Aggregator
    part_elements: int = PART_ELEMENTS
    factors: Factors | None = None

    def __post_init__(self) -> None:
        if self.part_elements % self.grain:
            raise ValueError(
                f"parts of {self.part_elements} values can't be cut where {self.grain} go together"
            )

    @property
    def grain(self) -> int:
        """How many values are encoded together, on either way: both are powers of two."""
        return max(self.codec.grain, self.codec.back.grain)

    @property
    def part_bytes(self) -> int:
        """The most that a part takes, on either way."""
        return max(codec.encoded_size(self.part_elements) for codec in (self.codec, self.codec.back))


@dataclass(frozen=True)
class ReduceOrder:
    """One all-reduce to be run. All members must get the same key, roster and weights.

    Attributes:
        key: Names the attempt, in hexadecimal (up to 64 digits); never used twice.
        roster: Peer ids of the members, sorted; member i reduces slice i.
        weights: Samples per member. A member of weight 0 sends no values and gets the mean all the same.
        start_s: Seconds until a member must have begun.
        stall_s: Seconds that a stream may stand still.
        total_s: Seconds that the whole may take.
        num_elements: How many values of the buffer, from its beginning; all when left out.
        codec: Name of the codec, of those that the averager has; its first one when left out.
    """

    key: str
    roster: tuple[str, ...]
    weights: tuple[int, ...]
    start_s: float
    stall_s: float
    total_s: float
    num_elements: int | None = None
    codec: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(bytes.fromhex(self.key)) <= 32:
            raise ValueError("a key has 2 to 64 hexadecimal digits")
        if not self.roster or list(self.roster) != sorted(set(self.roster)):
            raise ValueError("a roster is sorted and names nobody twice")
        if len(self.weights) != len(self.roster) or min(self.weights) < 0:
            raise ValueError("each member has one weight, 0 or more")
        if min(self.start_s, self.stall_s, self.total_s) <= 0:
            raise ValueError("time limits are positive")
        if self.num_elements is not None and self.num_elements < 1:
            raise ValueError("there is a value at least to average")

    @property
    def group_id(self) -> bytes:
        """The key as it travels."""
        return bytes.fromhex(self.key)


@dataclass(frozen=True)
class ReduceOutcome:
    """How an all-reduce ended on this peer.

    Attributes:
        complete: Whether the buffer holds the whole mean. If not, the buffer's content is undefined.
        seconds: How long it took.
        bytes_in: Bytes of parts received, without protocol overhead.
        bytes_out: Bytes of parts sent.
        cause: Why it failed, in one clause; empty when complete.
        blamed: Peer id of who seems responsible; empty when complete or unknown.
    """

    complete: bool
    seconds: float
    bytes_in: int
    bytes_out: int
    cause: str = ""
    blamed: str = ""


class Fault(Exception):
    """Why an attempt fails.

    Attributes:
        cause: What happened, in one clause.
        blamed: Peer id of who seems responsible, or "".
        final: Whether it ends the attempt for everybody, as far as its finder knows.
        spread: Whom to name to other members.
    """

    def __init__(self, cause: str, blamed: str = "", *, final: bool = False, spread: str = "") -> None:
        self.cause = cause
        self.blamed = blamed
        self.final = final
        self.spread = spread or blamed
        super().__init__(cause)


@dataclass(frozen=True)
class Slices:
    """How the flat vector is cut.

    Attributes:
        num_elements: Length of the vector.
        num_members: Length of the roster.
        part_elements: Values per part; the last part of a slice may be shorter.
        grain: Cuts lie at multiples of it.
    """

    num_elements: int
    num_members: int
    part_elements: int
    grain: int = 1

    def bounds(self, member: int) -> tuple[int, int]:
        """Find a member's slice.

        Args:
            member: Its place in the roster.

        Returns:
            First element, and one past the last. Empty when there are more members than grains.
        """
        return self._cut(member), self._cut(member + 1)

    def _cut(self, place: int) -> int:
        grains = -(-self.num_elements // self.grain)
        return min(grains * place // self.num_members * self.grain, self.num_elements)

    def num_parts(self, member: int) -> int:
        """Count the parts of a member's slice.

        Args:
            member: Its place in the roster.

        Returns:
            Parts, the shorter last one included.
        """
        first, last = self.bounds(member)
        return -(-(last - first) // self.part_elements)

    def part(self, member: int, index: int) -> slice:
        """Find one part of a member's slice.

        Args:
            member: Its place in the roster.
            index: Which part, from 0.

        Returns:
            Where it lies in the flat vector.
        """
        first, last = self.bounds(member)
        begin = first + index * self.part_elements
        return slice(begin, min(begin + self.part_elements, last))
