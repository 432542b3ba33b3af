"""The 2-bit code: a sign and one of two levels per value, with the levels per block.

    t = mean |x|,  b = [|x| > t],  L1 = mean{|x|: b},  L0 = mean{|x|: ¬b}
    code = 2 · sign + b         decoded as ±L_b

Each level is the mean of what it stands for: no other two lose less with this split.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import Bytes, Codec, TiledCodec, padded, refuse_non_finite, words
from paceline.learning.codecs.ints import Int4Codec
from paceline.learning.codecs.scales import Halves, narrow, refuse_odd, widen
from paceline.learning.flat import Flat

Rows = NDArray[np.float32]
_BLOCK = 256


def split(rows: Rows, last: int) -> tuple[Halves, Bytes]:
    """Code rows of values.

    Args:
        rows: `[r, c]`, finite, c a multiple of 4.
        last: How many values the last row holds; the rest of it is zero.

    Returns:
        Levels L0 and L1 per row, `[r, 2]`, and packed codes, `[r, c / 4]`.
    """
    sizes = np.abs(rows)
    counts = np.full(len(rows), rows.shape[1], np.float32)
    counts[-1] = last
    is_high = sizes > (_sums(sizes) / counts)[:, None]
    num_high = np.add.reduce(is_high, axis=1, dtype=np.float32)
    high = sizes * is_high
    levels = np.empty((len(rows), 2), np.float32)
    levels[:, 1] = _sums(high) / np.maximum(num_high, 1)
    np.subtract(sizes, high, out=high)  # exact: one of the two is zero
    levels[:, 0] = _sums(high) / np.maximum(counts - num_high, 1)
    codes = np.signbit(rows).view(np.uint8) << np.uint8(1)
    codes |= is_high.view(np.uint8)
    return narrow(levels), pack(codes)


def pack(codes: Bytes) -> Bytes:
    """Put four codes into each byte, the first in the lowest bits.

    Args:
        codes: `[r, c]`, each below 4; c a multiple of 4.

    Returns:
        `[r, c / 4]`.
    """
    four = codes.view("<u4")
    four = four | (four >> np.uint32(6)) | (four >> np.uint32(12)) | (four >> np.uint32(18))
    packed: Bytes = four.astype(np.uint8)
    return packed


def join(levels: Halves, packed: Bytes) -> Rows:
    """Decode rows.

    Args:
        levels: `[r, 2]`, as `split` makes them.
        packed: `[r, c / 4]`.

    Returns:
        `[r, c]`: every value is exactly plus or minus a level.
    """
    wide = widen(levels)
    values = _HIGH[packed].view(np.int8).astype(np.float32)
    values *= wide[:, 1:]
    low = _LOW[packed].view(np.int8).astype(np.float32)
    low *= wide[:, :1]
    values += low  # exact: one of the two is zero
    return values


class Int2Codec(TiledCodec):
    """Two bits per value, and four bytes per block of 256: 2.125 bits per value, 15 times less than fp32.

    Guarantees:
        int2 is off by at most its block's largest value, and never changes a sign.
    """

    name = "int2"
    grain = _BLOCK
    feedback: ClassVar[float | None] = 1.0

    @property
    def back(self) -> Codec:
        """Twice as fine: what two levels lose of the mean, nobody would make up for."""
        return Int4Codec()

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return 4 * -(-n // _BLOCK) + -(-n // 4)

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        refuse_odd(words(raw[: 4 * -(-n // _BLOCK)]))
        if n % 4 and raw[-1] >> (2 * (n % 4)):
            raise BadPayload(f"{self.name}: the last bits of the last byte are not zero")

    def _encode_tile(self, values: Flat, out: Bytes, start: int, n: int) -> None:
        refuse_non_finite(values)
        blocks = -(-values.size // _BLOCK)
        rows = padded(values, blocks * _BLOCK).reshape(blocks, _BLOCK)
        levels, packed = split(rows, values.size - (blocks - 1) * _BLOCK)
        first, begin = start // _BLOCK, 4 * -(-n // _BLOCK) + start // 4
        out[4 * first : 4 * (first + blocks)] = levels.view(np.uint8).ravel()
        size = -(-values.size // 4)
        out[begin : begin + size] = packed.ravel()[:size]

    def _decode_tile(self, raw: Bytes, out: Flat, start: int, n: int) -> None:
        blocks = -(-out.size // _BLOCK)
        first, begin = start // _BLOCK, 4 * -(-n // _BLOCK) + start // 4
        levels = words(raw[4 * first : 4 * (first + blocks)]).reshape(blocks, 2)
        packed = padded(raw[begin : begin + -(-out.size // 4)], blocks * _BLOCK // 4)
        out[:] = join(levels, packed.reshape(blocks, _BLOCK // 4)).ravel()[: out.size]


def _sums(rows: Rows) -> Rows:
    with np.errstate(over="ignore"):
        sums: Rows = np.add.reduce(rows, axis=1)
    if np.isfinite(sums).all():
        return sums
    # Too large for float32: no mean can be, though; the caller divides, and what remains infinite saturates.
    return np.add.reduce(rows, axis=1, dtype=np.float64)  # type: ignore[no-any-return]


def _table(high: bool) -> NDArray[np.uint32]:
    # For each byte four factors, -1, 0 or 1, of one level.
    byte = np.arange(256, dtype=np.uint32)
    codes = np.stack([(byte >> shift) & 3 for shift in (0, 2, 4, 6)], axis=1)
    factors = np.where(codes & 1 == int(high), 1 - (codes & 2).astype(np.int8), 0).astype(np.int8)
    return factors.view("<u4").ravel()


_HIGH, _LOW = _table(high=True), _table(high=False)
