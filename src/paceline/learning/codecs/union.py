"""How the mean of top-k vectors travels: what any member kept, in int8; or all of it, once that is shorter.

The first byte is 1 for a sparse payload and 0 for a dense one, which is that of int8. A sparse one holds how
many values each chunk of 4,096 has, and their scales (largest / 127), two bytes each; then the ascending
indices of all chunks, 12 bits each, two in three bytes; then the int8 codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import Bytes, Codec, refuse_non_finite, tiles, words
from paceline.learning.codecs.ints import Int8Codec
from paceline.learning.codecs.packing import pack12, packed12_size, unpack12
from paceline.learning.codecs.scales import LARGEST, Halves, narrow, refuse_odd, widen
from paceline.learning.flat import Flat

_CHUNK = 4096
_LEVELS = np.float32(127)
_LARGEST = LARGEST - (7 << 7)
_DENSE = Int8Codec()
_Places = NDArray[np.int64]


class _Sparse(NamedTuple):
    counts: Halves
    scales: Halves
    indices: Bytes
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
        places = _non_zero(values)
        size = _sparse_size(-(-values.size // _CHUNK), places.size)
        if size >= out.size:
            out[0] = 0
            return 1 + _DENSE.encode_into(values, out[1:])
        out[0] = 1
        _write(_sparse(values, places), out[1:size])
        return size

    def _check(self, raw: Bytes, n: int) -> None:
        if not raw.size or raw[0] > 1:
            raise BadPayload("union: it begins with no byte that says what it is")
        if raw[0] == 0:
            _DENSE._check(raw[1:], n)
            return
        if raw.size > self.encoded_size(n):
            raise BadPayload(f"union: {raw.size} bytes where {self.encoded_size(n)} would hold everything")
        parts = _parse(raw[1:], n)
        refuse_odd(parts.scales, _LARGEST)
        if parts.codes.size % 2 and parts.indices[-1] >> 4:
            raise BadPayload("union: the bits after the last index are not zero")
        places = _places(parts)
        if places.size and ((np.diff(places) <= 0).any() or places[-1] >= n):
            raise BadPayload("union: indices are out of range or not ascending")

    def _decode(self, raw: Bytes, out: Flat) -> None:
        if raw[0] == 0:
            _DENSE._decode(raw[1:], out)
            return
        parts = _parse(raw[1:], out.size)
        out[:] = 0
        out[_places(parts)] = _values(parts)

    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        if raw[0] == 0:
            _DENSE._accumulate(raw[1:], weight, into)
            return
        parts = _parse(raw[1:], into.size)
        into[_places(parts)] += _values(parts) * weight


def _sparse_size(chunks: int, kept: int) -> int:
    return 1 + 4 * chunks + packed12_size(kept) + kept


def _non_zero(values: Flat) -> _Places:
    found = [np.empty(0, np.int64)]
    for tile in tiles(values.size):
        refuse_non_finite(values[tile])
        found.append(np.flatnonzero(values[tile] != 0) + tile.start)
    return np.concatenate(found)


def _sparse(values: Flat, places: _Places) -> _Sparse:
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
    indices = pack12((places % _CHUNK).astype(np.uint32)[None, :])[0]
    return _Sparse(counts.astype("<u2"), scales, indices, codes)


def _write(parts: _Sparse, out: Bytes) -> None:
    start = 0
    for part in parts:
        raw = part.view(np.uint8)
        out[start : start + raw.size] = raw
        start += raw.size


def _parse(raw: Bytes, n: int) -> _Sparse:
    # Nothing is allocated before the counts, which are at most as many as values are owed, fit the length.
    chunks = -(-n // _CHUNK)
    if raw.size < 4 * chunks:
        raise BadPayload("union: it ends before its counts do")
    counts = words(raw[: 2 * chunks])
    kept = int(counts.sum(dtype=np.int64))
    ends = 4 * chunks + packed12_size(kept)
    if kept > n or raw.size != ends + kept:
        raise BadPayload(f"union: {raw.size} bytes where {ends + kept} were owed")
    scales = words(raw[2 * chunks : 4 * chunks])
    return _Sparse(counts, scales, raw[4 * chunks : ends], raw[ends:].view(np.int8))


def _places(parts: _Sparse) -> _Places:
    within = unpack12(parts.indices[None, :], parts.codes.size)[0].astype(np.int64)
    places: _Places = within + np.repeat(np.arange(len(parts.counts)) * _CHUNK, parts.counts)
    return places


def _values(parts: _Sparse) -> Flat:
    values: Flat = parts.codes.astype(np.float32) * np.repeat(widen(parts.scales), parts.counts)
    return values
