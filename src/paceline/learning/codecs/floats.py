"""Codecs whose values are floats of one width: fp32, fp16 and bf16."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import TORCH_TILE, Bytes, TiledCodec, refuse_non_finite, tiles, words
from paceline.learning.flat import Flat

FP16_MAX = 65504.0
"""The largest finite half-precision number."""
BF16_MAX = float(np.uint32(0x7F7F0000).view(np.float32))
"""The largest finite bfloat16 number."""


class Fp32Codec(TiledCodec):
    """Four bytes per value, exact.

    Guarantees:
        fp32 gives back the same bits.
    """

    name = "fp32"

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return 4 * n

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        values = raw.view("<f4")
        for tile in tiles(n):
            if not np.isfinite(values[tile]).all():
                raise BadPayload(f"{self.name}: a value is NaN or infinite")

    def _encode_tile(self, values: Flat, out: Bytes, start: int, n: int) -> None:
        refuse_non_finite(values)
        out[4 * start : 4 * (start + values.size)] = values.view(np.uint8)

    def _decode_tile(self, raw: Bytes, out: Flat, start: int, n: int) -> None:
        out.view(np.uint8)[:] = raw[4 * start : 4 * (start + out.size)]


class _HalfCodec(TiledCodec):
    """Two bytes per value. Torch converts: numpy takes fifteen times as long."""

    _kind: ClassVar[torch.dtype]
    _exponent: ClassVar[int]
    _limit: ClassVar[float]

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return 2 * n

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        exponent = np.uint16(self._exponent)
        bits = words(raw)
        for tile in tiles(n):
            if ((bits[tile] & exponent) == exponent).any():
                raise BadPayload(f"{self.name}: a value is NaN or infinite")

    def _encode_tile(self, values: Flat, out: Bytes, start: int, n: int) -> None:
        refuse_non_finite(values)
        near = np.clip(values, -self._limit, self._limit)
        bits = np.empty(values.size, np.int16)
        for few in tiles(values.size, TORCH_TILE):
            torch.from_numpy(bits[few]).view(self._kind).copy_(torch.from_numpy(near[few]))
        out[2 * start : 2 * (start + values.size)] = bits.view(np.uint8)

    def _decode_tile(self, raw: Bytes, out: Flat, start: int, n: int) -> None:
        # Torch takes no read-only or unaligned memory.
        bits = raw[2 * start : 2 * (start + out.size)].copy().view(np.int16)
        for few in tiles(out.size, TORCH_TILE):
            torch.from_numpy(out[few]).copy_(torch.from_numpy(bits[few]).view(self._kind))


class Fp16Codec(_HalfCodec):
    """IEEE half precision, rounded to nearest even.

    Guarantees:
        fp16 is off by at most one part in 2048, or by 2^-25 where that is more.
        fp16 saturates rather than overflows.
    """

    name = "fp16"
    _kind, _exponent, _limit = torch.float16, 0x7C00, FP16_MAX


class Bf16Codec(_HalfCodec):
    """The upper half of float32, rounded to nearest even: less precise than fp16, as wide as fp32.

    Guarantees:
        bf16 is off by at most one part in 256, or by 2^-134 where that is more.
        bf16 saturates rather than overflows.
    """

    name = "bf16"
    _kind, _exponent, _limit = torch.bfloat16, 0x7F80, BF16_MAX
