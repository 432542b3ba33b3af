"""What a codec is: it turns float32 values into bytes and back.

Payloads are little-endian and have no header that could lie: the receiver knows how many values it is owed,
and refuses anything else before it allocates or changes anything. Decoding uses only operations whose every
bit IEEE 754 prescribes, so the same bytes mean the same values to every peer; encoding is deterministic on
one machine. Work is done in tiles and not on whole vectors, by one thread per call: whoever has several parts
calls from several threads, for numpy and torch let go of the interpreter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.flat import Flat, check_flat

Bytes = NDArray[np.uint8]
Payload = bytes | bytearray | memoryview | Bytes
Number = TypeVar("Number", bound="np.number[Any]")

TILE = 1 << 17
"""Values worked on at a time: 512 KiB. Smaller tiles fit a core's cache better, but threads that ask for the
interpreter every few microseconds wait for one another longer than they work."""
TORCH_TILE = 1 << 14
"""Values that torch is given at a time: for more it would start threads of its own, which can hang in a
forked process, as the averager's is."""


class Codec(ABC):
    """How values travel.

    Guarantees:
        What is decoded is exactly what the format says.
        A vector cut at multiples of the grain is encoded as its pieces are.
        Hostile bytes raise BadPayload or give finite values.
        A refused payload changes nothing.

    Attributes:
        name: Its name, in the run's configuration if it has one there.
        grain: Values that are encoded together: a power of two. Cut vectors at multiples of it only.
        feedback: How much of what was lost is sent along next time (β of `learning.feedback`), or None where
            little enough is lost.
    """

    name: ClassVar[str]
    grain: ClassVar[int] = 1
    feedback: ClassVar[float | None] = None

    @property
    def back(self) -> Codec:
        """How the mean travels: nobody feeds back what is lost on this way."""
        return self

    @abstractmethod
    def encoded_size(self, n: int) -> int:
        """Tell how many bytes values take at most; all but the sparse mean take exactly so many.

        Args:
            n: How many values.

        Returns:
            Bytes.
        """

    def encode(self, values: Flat) -> bytes:
        """Turn values into bytes.

        Args:
            values: float32 `[n]`.

        Returns:
            At most `encoded_size(n)` bytes.

        Raises:
            BadPayload: A value is NaN or infinite.
            ValueError: It is not flat float32.
        """
        out = np.empty(self.encoded_size(values.size), np.uint8)
        return out[: self.encode_into(values, out)].tobytes()

    def encode_into(self, values: Flat, out: bytearray | memoryview | Bytes) -> int:
        """Turn values into bytes, where there is room for them.

        Args:
            values: float32 `[n]`.
            out: Room for `encoded_size(n)` bytes, or more; overwritten.

        Returns:
            How many bytes were written.

        Raises:
            BadPayload: A value is NaN or infinite; what `out` holds is then undefined.
            ValueError: The values are not flat float32, or there is too little room.
        """
        check_flat(values, values.size)
        room = np.frombuffer(out, np.uint8)
        size = self.encoded_size(values.size)
        if room.size < size:
            raise ValueError(f"{self.name}: room for {room.size} bytes where {size} are needed")
        return self._encode(values, room[:size])

    def decode(self, data: Payload, n: int) -> Flat:
        """Turn untrusted bytes back into values.

        Args:
            data: What `encode` made, or what somebody claims that it made.
            n: How many values are owed.

        Returns:
            float32 `[n]`, an array of its own, all finite.

        Raises:
            BadPayload: They are not `n` finite values of this codec.
        """
        raw = np.frombuffer(data, np.uint8)
        self._check(raw, n)
        values = np.empty(n, np.float32)
        self._decode(raw, values)
        return values

    def decode_into(self, data: Payload, out: Flat) -> None:
        """Turn untrusted bytes back into values, where there is room for them.

        Args:
            data: Untrusted bytes.
            out: float32 `[n]`, overwritten; as it was when the bytes are refused.

        Raises:
            BadPayload: They are not `n` finite values of this codec.
            ValueError: `out` is not flat float32.
        """
        check_flat(out, out.size)
        raw = np.frombuffer(data, np.uint8)
        self._check(raw, out.size)
        self._decode(raw, out)

    def accumulate(self, data: Payload, num_elements: int, weight: float, into: Flat) -> None:
        """Add weighted values up: `into` += `weight` · `decode(data)`, both steps rounded to float32.

        Args:
            data: Untrusted bytes.
            num_elements: How many values are owed.
            weight: Rounded to float32.
            into: float32 `[num_elements]`, changed in place; as it was when the bytes are refused.

        Raises:
            BadPayload: They are not so many finite values of this codec.
            ValueError: `into` is not flat float32 of that size.
        """
        check_flat(into, num_elements)
        raw = np.frombuffer(data, np.uint8)
        self._check(raw, num_elements)
        with np.errstate(over="ignore", invalid="ignore"):
            self._accumulate(raw, np.float32(weight), into)

    @abstractmethod
    def _encode(self, values: Flat, out: Bytes) -> int:
        """Encode into exactly `encoded_size(n)` bytes of room; tell how many were used."""

    @abstractmethod
    def _check(self, raw: Bytes, n: int) -> None:
        """Refuse what `_decode` could not turn into `n` finite values."""

    @abstractmethod
    def _decode(self, raw: Bytes, out: Flat) -> None:
        """Decode what `_check` let pass."""

    @abstractmethod
    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        """Decode what `_check` let pass, and add it."""

    def _check_length(self, raw: Bytes, n: int) -> None:
        if raw.size != self.encoded_size(n):
            raise BadPayload(f"{self.name}: {raw.size} bytes where {self.encoded_size(n)} were owed")


class TiledCodec(Codec):
    """A codec that takes and gives a tile at a time, and whose payloads have a fixed length."""

    def _encode(self, values: Flat, out: Bytes) -> int:
        for tile in tiles(values.size):
            self._encode_tile(values[tile], out, tile.start, values.size)
        return out.size

    def _decode(self, raw: Bytes, out: Flat) -> None:
        for tile in tiles(out.size):
            self._decode_tile(raw, out[tile], tile.start, out.size)

    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        scratch = np.empty(min(TILE, into.size), np.float32)
        for tile in tiles(into.size):
            term = scratch[: tile.stop - tile.start]
            self._decode_tile(raw, term, tile.start, into.size)
            np.multiply(term, weight, out=term)
            np.add(into[tile], term, out=into[tile])

    @abstractmethod
    def _encode_tile(self, values: Flat, out: Bytes, start: int, n: int) -> None:
        """Encode what begins at `start` of `n` to its place in the payload; refuse what is not finite."""

    @abstractmethod
    def _decode_tile(self, raw: Bytes, out: Flat, start: int, n: int) -> None:
        """Decode the values that begin at `start` of `n` from a payload that was checked."""


def tiles(n: int, size: int = TILE) -> Iterator[slice]:
    """Cut a range into tiles.

    Args:
        n: Its length.
        size: That of a tile; the last one may be shorter.

    Yields:
        Slices, in order.
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def padded(array: NDArray[Number], size: int) -> NDArray[Number]:
    """Lengthen a short array with zeros.

    Args:
        array: `[k]`, k ≤ size.
        size: How long it must be.

    Returns:
        The array itself when it is long enough, else a longer copy.
    """
    if array.size == size:
        return array
    longer = np.zeros(size, array.dtype)
    longer[: array.size] = array
    return longer


def words(raw: Bytes) -> NDArray[np.uint16]:
    """Read bytes as little-endian numbers of two bytes.

    Args:
        raw: The bytes, wherever they lie.

    Returns:
        A view of them; a copy where the machine could not read them in place.
    """
    view: NDArray[np.uint16] = raw.view("<u2")
    return view if view.flags.aligned else view.copy()


def refuse_non_finite(values: Flat) -> None:
    """Refuse what no codec carries.

    Args:
        values: float32 `[n]`.

    Raises:
        BadPayload: A value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise BadPayload("a value is NaN or infinite")
