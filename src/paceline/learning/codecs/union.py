"""How the mean of top-k vectors travels: what any member kept, in int8; or all of it, once that is shorter.

The first byte is 1 for a sparse payload and 0 for a dense one, which is that of int8. A sparse one with n of
N values holds n, in eight bytes; the scale of each chunk of 4,096 (largest / 127), in two; the gaps between
indices (`paceline.learning.codecs.gaps`), s = ⌊log2((N - n) / n)⌋ but at least 0 and at most 8, in planes and
a bitmap that ends with its last one; then the int8 codes. What rounds to zero is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import Bytes, Codec, refuse_non_finite, tiles, words
from paceline.learning.codecs.gaps import (
    MOST_SHIFT,
    Places,
    bitmap_size,
    pack_gaps,
    planes_size,
    refuse_bad_gaps,
    unpack_gaps,
)
from paceline.learning.codecs.ints import Int8Codec
from paceline.learning.codecs.scales import LARGEST, Halves, narrow, refuse_odd, widen
from paceline.learning.flat import Flat

_CHUNK = 4096
_HEAD = 9
_LEVELS = np.float32(127)
_LARGEST = LARGEST - (7 << 7)
_DENSE = Int8Codec()


class _Sparse(NamedTuple):
    scales: Halves
    planes: Bytes
    bitmap: Bytes
    codes: NDArray[np.int8]


class UnionCodec(Codec):
    """What is not zero, or everything.

    Guarantees:
        A sparse mean takes no more bytes than a dense one and a byte.
        union is off by at most 1/253 of its chunk's largest value, or by 2^-119 where that is more.
    """

    name = "union"
    grain = _CHUNK

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take at most.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return 1 + _DENSE.encoded_size(n)

    def _encode(self, values: Flat, out: Bytes) -> int:
        parts = _sparse(values, _non_zero(values))
        size = _HEAD + sum(part.nbytes for part in parts)
        if size >= out.size:
            out[0] = 0
            return 1 + _DENSE.encode_into(values, out[1:])
        out[0] = 1
        out[1:_HEAD] = np.array([parts.codes.size], "<u8").view(np.uint8)
        np.concatenate([part.view(np.uint8) for part in parts], out=out[_HEAD:size])
        return size

    def _check(self, raw: Bytes, n: int) -> None:
        if not raw.size or raw[0] > 1:
            raise BadPayload("union: it begins with no byte that says what it is")
        if raw[0] == 0:
            _DENSE._check(raw[1:], n)
            return
        if raw.size >= self.encoded_size(n):
            raise BadPayload(f"union: {raw.size} bytes where {self.encoded_size(n)} would hold everything")
        parts = _parse(raw, n)
        refuse_odd(parts.scales, _LARGEST)
        kept = parts.codes.size
        refuse_bad_gaps(parts.planes, parts.bitmap, kept, _shift(kept, n), n)
        if kept and not parts.bitmap[-1]:
            raise BadPayload("union: its bitmap goes on after the last index")
        if not parts.codes.all():
            raise BadPayload("union: a value that it holds is zero")

    def _decode(self, raw: Bytes, out: Flat) -> None:
        if raw[0] == 0:
            _DENSE._decode(raw[1:], out)
            return
        places, values = _read(raw, out.size)
        out[:] = 0
        out[places] = values

    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        if raw[0] == 0:
            _DENSE._accumulate(raw[1:], weight, into)
            return
        places, values = _read(raw, into.size)
        into[places] += values * weight


def _shift(kept: int, n: int) -> int:
    # Of gaps as random ones are, with this mean, hardly any other number of bits makes less.
    return min(max(((n - kept) // max(kept, 1)).bit_length() - 1, 0), MOST_SHIFT)


def _non_zero(values: Flat) -> Places:
    found = [np.empty(0, np.int64)]
    for tile in tiles(values.size):
        refuse_non_finite(values[tile])
        found.append(np.flatnonzero(values[tile] != 0) + tile.start)
    return np.concatenate(found)


def _sparse(values: Flat, places: Places) -> _Sparse:
    chunks = -(-values.size // _CHUNK)
    kept, chunk = values[places], places // _CHUNK
    counts = np.bincount(chunk, minlength=chunks)
    largest = np.zeros(chunks, np.float32)
    filled = counts > 0
    if places.size:
        starts = (np.cumsum(counts) - counts)[filled]
        largest[filled] = np.maximum.reduceat(np.abs(kept), starts)
    scales = narrow(largest / _LEVELS, _LARGEST)
    wide = widen(scales)
    factors = np.divide(1, wide, out=np.zeros_like(wide), where=wide > 0)
    codes = np.clip(np.rint(kept * factors[chunk]), -_LEVELS, _LEVELS).astype(np.int8)
    counted = np.flatnonzero(codes)
    if counted.size < codes.size:
        codes, places = codes[counted], places[counted]
    planes, bitmap = pack_gaps(places, _shift(places.size, values.size), values.size)
    return _Sparse(scales, planes, bitmap[: np.flatnonzero(bitmap)[-1] + 1 if places.size else 0], codes)


def _parse(raw: Bytes, n: int) -> _Sparse:
    # Nothing is allocated before the number of values, at most as many as are owed, fits the length.
    scales = _HEAD + 2 * -(-n // _CHUNK)
    if raw.size < scales:
        raise BadPayload("union: it ends before its scales do")
    kept = int.from_bytes(raw[1:_HEAD].tobytes(), "little")
    if kept > n:
        raise BadPayload(f"union: {kept} values where at most {n} are owed")
    shift = _shift(kept, n)
    planes, codes = scales + planes_size(kept, shift), raw.size - kept
    if not 0 <= codes - planes <= bitmap_size(kept, shift, n):
        raise BadPayload(f"union: {raw.size} bytes don't hold {kept} of {n} values")
    return _Sparse(words(raw[_HEAD:scales]), raw[scales:planes], raw[planes:codes], raw[codes:].view(np.int8))


def _read(raw: Bytes, n: int) -> tuple[Places, Flat]:
    # Where values lie, and what they are.
    parts = _parse(raw, n)
    places = unpack_gaps(parts.planes, parts.bitmap, parts.codes.size, _shift(parts.codes.size, n))
    values: Flat = parts.codes.astype(np.float32) * widen(parts.scales)[places // _CHUNK]
    return places, values
