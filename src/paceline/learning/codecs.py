"""How pseudo-gradients and their mean travel: a codec turns float32 values into bytes and back.

Both codecs are little-endian and have no header: the receiver knows how many values it is owed, and anything
else is refused. Encoding what was decoded gives the same bytes again, so a mean that is encoded once means
the same to everybody.

    >>> codec = make_codec("fp16")
    >>> codec.decode(codec.encode(np.array([0.5, 1e9], np.float32)), 2).tolist()
    [0.5, 65504.0]
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol, assert_never

import numpy as np

from paceline.core.errors import PacelineError
from paceline.learning.flat import Flat, check_flat

FP16_MAX = 65504.0
"""The largest finite half-precision number."""


class Codec(Protocol):
    """What the averager needs to know of a codec.

    Attributes:
        name: Its name in the run's configuration.
    """

    @property
    def name(self) -> str:
        """Its name in the run's configuration."""

    def encoded_size(self, n: int) -> int:
        """Tell how many bytes values take.

        Args:
            n: How many values.
        """

    def encode(self, values: Flat) -> bytes:
        """Turn values into bytes.

        Args:
            values: float32 `[n]`.
        """

    def decode(self, data: bytes | bytearray | memoryview, n: int) -> Flat:
        """Turn bytes back into float32 `[n]`; ValueError when they are not `n` finite values.

        Args:
            data: Untrusted bytes.
            n: How many values they must hold.
        """


class _PlainCodec:
    """Values as little-endian floats of one width."""

    name: ClassVar[str]
    _dtype: ClassVar[np.dtype[np.floating]]

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return n * self._dtype.itemsize

    def encode(self, values: Flat) -> bytes:
        """Encode.

        Args:
            values: float32 `[n]`.

        Returns:
            `encoded_size(n)` bytes.

        Raises:
            ValueError: A value is NaN or infinite, or the array is no flat float32 one.
        """
        check_flat(values, values.size)
        _refuse_non_finite(values)
        return self._narrow(values).tobytes()

    def decode(self, data: bytes | bytearray | memoryview, n: int) -> Flat:
        """Decode untrusted bytes.

        Args:
            data: What `encode` made, or what somebody claims that it made.
            n: How many values are owed.

        Returns:
            float32 `[n]`, an array of its own, all finite.

        Raises:
            ValueError: The length is not that of `n` values, or a value is NaN or infinite.
        """
        if len(memoryview(data).cast("B")) != self.encoded_size(n):
            raise ValueError(f"{self.name}: {len(data)} bytes where {self.encoded_size(n)} were owed")
        values = np.frombuffer(data, self._dtype).astype(np.float32)
        _refuse_non_finite(values)
        return values

    def _narrow(self, values: Flat) -> np.ndarray:
        return values.astype(self._dtype, copy=False)


class Fp32Codec(_PlainCodec):
    """Four bytes per value, exact.

    Guarantees:
        fp32 gives back the same bits.
    """

    name = "fp32"
    _dtype = np.dtype("<f4")


class Fp16Codec(_PlainCodec):
    """Two bytes per value, IEEE half precision, rounded to nearest even.

    Guarantees:
        fp16 is off by at most one part in 2048, or by 2^-25 where that is more.
        fp16 saturates rather than overflows.
    """

    name = "fp16"
    _dtype = np.dtype("<f2")

    def _narrow(self, values: Flat) -> np.ndarray:
        return np.clip(values, -FP16_MAX, FP16_MAX).astype(self._dtype)


def make_codec(name: Literal["fp32", "fp16"]) -> Codec:
    """Choose a codec.

    Args:
        name: `codec` of the run's configuration.

    Returns:
        The codec.
    """
    match name:
        case "fp32":
            return Fp32Codec()
        case "fp16":
            return Fp16Codec()
        case _:
            assert_never(name)


def self_test(codec: Codec) -> None:
    """Really encode and decode, once, before a round depends on it.

    A codec that fails in the middle of an all-reduce can look like a peer that left (hivemind's 8-bit one did
    so for a whole numpy release).

    Args:
        codec: What to try.

    Raises:
        PacelineError: It does not give back what it was given.
    """
    try:
        _round_trip(codec)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise PacelineError(
            f"the {codec.name} codec fails its self-test on this machine: {error}",
            "install another version of numpy",
        ) from error


def _round_trip(codec: Codec) -> None:
    values = np.concatenate([np.linspace(-4, 4, 1001), [0.0, 1e-3, -1e-6, 6e4]]).astype(np.float32)
    data = codec.encode(values)
    if len(data) != codec.encoded_size(values.size):
        raise ValueError("the encoded size is not the promised one")
    back = codec.decode(data, values.size)
    if not np.allclose(back, values, rtol=2**-10, atol=2**-20):
        raise ValueError("what comes back is not what went in")
    if codec.encode(back) != data:
        raise ValueError("encoding again gives other bytes")


def _refuse_non_finite(values: Flat) -> None:
    if not np.isfinite(values).all():
        raise ValueError("a value is NaN or infinite")
