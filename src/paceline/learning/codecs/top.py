"""Top-k: of each chunk of 4,096 values only the 64 largest travel, as signs and two levels (SparseLoCo).

A payload holds the levels L0 and L1 of each chunk (`paceline.learning.codecs.levels`), two bytes each; then
the gaps between all n indices, chunk after chunk (`paceline.learning.codecs.gaps`), 6 bits of each in planes
and the rest in a bitmap of n + ⌊(N - n) / 64⌋ bits for N values; then n codes of 2 bits. That is 84 bytes per
chunk, 8 bits per index and 0.164 bit per value. A last, short chunk of r values has ⌈r / 64⌉ indices. Of
equal values the first is taken.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import TILE, Bytes, Codec, padded, refuse_non_finite, words
from paceline.learning.codecs.gaps import (
    Places,
    bitmap_size,
    pack_gaps,
    planes_size,
    refuse_bad_gaps,
    unpack_gaps,
)
from paceline.learning.codecs.levels import join, split
from paceline.learning.codecs.scales import refuse_odd
from paceline.learning.codecs.union import UnionCodec
from paceline.learning.flat import Flat

CHUNK = 4096
_SHARE = 64
_KEPT = CHUNK // _SHARE
_SHIFT = 6
_STRIPS = 16


class _Parts(NamedTuple):
    # Views of a payload's parts, in their order.
    levels: Bytes
    planes: Bytes
    bitmap: Bytes
    codes: Bytes


class TopkCodec(Codec):
    """The largest values of each chunk: 195 times less than fp32.

    Guarantees:
        topk keeps the 64 largest values of each chunk, with their signs, and nothing else.
    """

    name = "topk"
    grain = CHUNK
    feedback: ClassVar[float | None] = 0.95

    @property
    def back(self) -> Codec:
        """What the members kept, together."""
        return UnionCodec()

    def encoded_size(self, n: int) -> int:
        """Tell how much room values take.

        Args:
            n: Number of values.

        Returns:
            Bytes.
        """
        return sum(_sizes(n))

    def _encode(self, values: Flat, out: Bytes) -> int:
        if not values.size:
            return 0
        parts, places = _parse(out, values.size), _places(values)
        parts.planes[:], parts.bitmap[:] = pack_gaps(places, _SHIFT, values.size)
        chunks = -(-values.size // CHUNK)
        rows = padded(values[places], chunks * _KEPT).reshape(chunks, _KEPT)
        levels, codes = split(rows, places.size - (chunks - 1) * _KEPT)
        parts.levels[:] = levels.view(np.uint8).ravel()
        parts.codes[:] = codes.ravel()[: parts.codes.size]
        return out.size

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        parts, kept = _parse(raw, n), _kept(n)
        refuse_odd(words(parts.levels))
        if kept % 4 and raw[-1] >> (2 * (kept % 4)):
            raise BadPayload("topk: the bits after the last code are not zero")
        refuse_bad_gaps(parts.planes, parts.bitmap, kept, _SHIFT, n)

    def _decode(self, raw: Bytes, out: Flat) -> None:
        places, values = _read(raw, out.size)
        out[:] = 0
        out[places] = values

    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        places, values = _read(raw, into.size)
        into[places] += values * weight


def largest(rows: NDArray[np.float32], kept: int) -> NDArray[np.uint32]:
    """Find the largest magnitudes of each row; of equal ones the first.

    Args:
        rows: `[r, c]`, finite, c at most 4,096.
        kept: How many to find per row.

    Returns:
        Ascending indices within the row, `[r, kept]`.
    """
    # Of the largest of many strips, the `kept` largest are a floor that few values reach.
    sizes = np.abs(rows)
    width = rows.shape[1]
    if width % _STRIPS or width // _STRIPS < kept:
        return _smallest_keys(_keys(sizes, np.arange(width, dtype=np.uint64)), kept)
    heads = sizes.reshape(len(rows), _STRIPS, -1).max(axis=1)
    heads.partition(heads.shape[1] - kept, axis=1)
    floors = heads[:, heads.shape[1] - kept]
    found = np.flatnonzero(sizes >= floors[:, None])
    row, place = found // width, found % width
    counts = np.bincount(row, minlength=len(rows))
    table = np.full((len(rows), counts.max()), ~np.uint64(0))
    table[row, np.arange(found.size) - np.repeat(np.cumsum(counts) - counts, counts)] = _keys(
        sizes.ravel()[found], place.astype(np.uint64)
    )
    return _smallest_keys(table, kept)


def _keys(sizes: NDArray[np.float32], places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Ordered by magnitude, falling, then by place: the bits of floats above zero are ordered as they are.
    return ((~sizes.view(np.uint32)).astype(np.uint64) << np.uint64(12)) | places


def _smallest_keys(keys: NDArray[np.uint64], kept: int) -> NDArray[np.uint32]:
    if keys.shape[1] > kept:
        keys = np.partition(keys, kept - 1, axis=1)[:, :kept]
    indices = (keys & np.uint64(0xFFF)).astype(np.uint32)
    indices.sort(axis=1)
    return indices


def _places(values: Flat) -> Places:
    # Of whole chunks, many at a time, and of the last, short one.
    n, whole = values.size, values.size // CHUNK * CHUNK
    places = np.empty(_kept(n), np.int64)
    for start in (*range(0, whole, TILE), *([whole] if whole < n else [])):
        some = values[start : min(start + TILE, whole) if start < whole else n]
        refuse_non_finite(some)
        rows = some.reshape(-1, min(CHUNK, some.size))
        found = places[_kept(start) : _kept(start + some.size)].reshape(len(rows), -1)
        starts = np.arange(start, start + some.size, CHUNK)[:, None]
        np.add(largest(rows, found.shape[1]), starts, out=found)
    return places


def _read(raw: Bytes, n: int) -> tuple[Places, Flat]:
    # Where the kept values lie, and what they are.
    parts, kept = _parse(raw, n), _kept(n)
    places = unpack_gaps(parts.planes, parts.bitmap, kept, _SHIFT)
    levels = words(parts.levels).reshape(-1, 2)
    codes = padded(parts.codes, len(levels) * _KEPT // 4).reshape(-1, _KEPT // 4)
    return places, join(levels, codes).ravel()[:kept]


def _parse(raw: Bytes, n: int) -> _Parts:
    parts, start = [], 0
    for size in _sizes(n):
        parts.append(raw[start : start + size])
        start += size
    return _Parts(*parts)


def _sizes(n: int) -> tuple[int, int, int, int]:
    kept = _kept(n)
    return 4 * -(-n // CHUNK), planes_size(kept, _SHIFT), bitmap_size(kept, _SHIFT, n), -(-kept // 4)


def _kept(n: int) -> int:
    return n // CHUNK * _KEPT + -(-(n % CHUNK) // _SHARE)
