"""Codecs whose values are small whole numbers times a scale per block: int8 and int4.

    s = max|x| / L          rounded to bfloat16; L = 127 or 7
    q = round(x / s)        decoded as q · s, which is exact for int4 and int8 alike

A payload holds the scales of all blocks, two bytes each, then the codes in two's complement; two int4 codes
share a byte, the first in its lower half. The last block may be short; an odd last half is zero.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import (
    TORCH_TILE,
    Bytes,
    TiledCodec,
    padded,
    refuse_non_finite,
    tiles,
    words,
)
from paceline.learning.codecs.scales import LARGEST, narrow, refuse_odd, widen
from paceline.learning.flat import Flat

# Added to a small number, it leaves the nearest whole number, ties to even, in the lowest bits.
_ROUNDER = np.float32(1.5 * 2**23)


class _IntCodec(TiledCodec):
    _levels: ClassVar[int]
    _bits: ClassVar[int]
    _block: ClassVar[int]

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return self._head_size(n) + self._body_size(n)

    @property
    def _largest(self) -> int:
        # Even the code of -(L + 1), which is never made, leaves a finite product.
        return LARGEST - ((self._bits - 1) << 7)

    def _head_size(self, n: int) -> int:
        return 2 * -(-n // self._block)

    def _body_size(self, n: int) -> int:
        return -(-n * self._bits // 8)

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        refuse_odd(words(raw[: self._head_size(n)]), self._largest)
        if n * self._bits % 8 and raw[-1] >> 4:
            raise BadPayload(f"{self.name}: the last half of the last byte is not zero")

    def _encode_tile(self, values: Flat, out: Bytes, start: int, n: int) -> None:
        blocks = -(-values.size // self._block)
        rows = padded(values, blocks * self._block).reshape(blocks, self._block)
        work = np.abs(rows)
        largest = largest_of(work)
        refuse_non_finite(largest)  # nor is a value of theirs
        scales = narrow(largest / np.float32(self._levels), self._largest)
        first = start // self._block
        out[2 * first : 2 * (first + blocks)] = scales.view(np.uint8)
        wide = widen(scales)
        factors = np.divide(1, wide, out=np.zeros_like(wide), where=wide > 0)
        np.multiply(rows, factors[:, None], out=work)
        if scales.max() == self._largest:  # only there a scale may be too small for its block
            np.clip(work, -self._levels, self._levels, out=work)
        work += _ROUNDER
        codes = work.view(np.int32).astype(np.int8).ravel()
        begin = self._head_size(n) + start * self._bits // 8
        out[begin : begin + self._body_size(values.size)] = self._pack(codes)[: self._body_size(values.size)]

    def _decode_tile(self, raw: Bytes, out: Flat, start: int, n: int) -> None:
        blocks = -(-out.size // self._block)
        size = blocks * self._block
        first, begin = start // self._block, self._head_size(n) + start * self._bits // 8
        scales = widen(words(raw[2 * first : 2 * (first + blocks)]))
        body = padded(raw[begin : begin + self._body_size(out.size)], self._body_size(size))
        room = out if out.size == size else np.empty(size, np.float32)
        room[:] = self._unpack(body)
        rows = room.reshape(blocks, self._block)
        np.multiply(rows, scales[:, None], out=rows)
        if room is not out:
            out[:] = room[: out.size]

    @abstractmethod
    def _pack(self, codes: NDArray[np.int8]) -> Bytes:
        """Pack whole blocks of codes."""

    @abstractmethod
    def _unpack(self, body: Bytes) -> NDArray[np.int8]:
        """Unpack whole blocks of codes."""


class Int8Codec(_IntCodec):
    """A byte per value, and two per block of 4,096: 3.998 times less than fp32.

    Guarantees:
        int8 is off by at most 1/253 of its block's largest value, or by 2^-119 where that is more.
    """

    name = "int8"
    _levels, _bits, _block = 127, 8, 4096
    grain = _block

    def _pack(self, codes: NDArray[np.int8]) -> Bytes:
        return codes.view(np.uint8)

    def _unpack(self, body: Bytes) -> NDArray[np.int8]:
        return body.view(np.int8)


class Int4Codec(_IntCodec):
    """Half a byte per value, and two bytes per block of 64: 4.25 bits per value, 7.5 times less than fp32.

    Guarantees:
        int4 is off by at most 1/13 of its block's largest value, or by 2^-123 where that is more.
    """

    name = "int4"
    _levels, _bits, _block = 7, 4, 64
    grain = _block

    def _pack(self, codes: NDArray[np.int8]) -> Bytes:
        pairs = codes.view("<u2")
        return ((pairs & np.uint16(0x000F)) | ((pairs >> np.uint16(4)) & np.uint16(0x00F0))).astype(np.uint8)

    def _unpack(self, body: Bytes) -> NDArray[np.int8]:
        pairs = body.astype("<u2")
        pairs |= pairs << np.uint16(4)
        pairs &= np.uint16(0x0F0F)
        pairs ^= np.uint16(0x0808)
        codes = pairs.view(np.int8)
        codes -= np.int8(8)
        return codes


def largest_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the largest value of each row, or NaN; torch does it faster than numpy where rows are short.

    Args:
        rows: `[r, c]`.

    Returns:
        `[r]`.
    """
    found = np.empty(len(rows), np.float32)
    for few in tiles(len(rows), TORCH_TILE // rows.shape[1]):
        torch.amax(torch.from_numpy(rows[few]), 1, out=torch.from_numpy(found[few]))
    return found
