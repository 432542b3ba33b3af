"""Top-k: of each chunk of 4,096 values only the 64 largest travel, as signs and two levels (SparseLoCo).

A chunk is 116 bytes: levels L0 and L1 (`paceline.learning.codecs.levels`), two bytes each; 64 ascending
indices of 12 bits, two in three bytes; 64 codes of 2 bits. That is 0.227 bit per value. A last, short chunk
of r values has ⌈r / 64⌉ indices, and is as much shorter. Of equal values the first is taken.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import TILE, Bytes, Codec, refuse_non_finite, tiles
from paceline.learning.codecs.levels import join, split
from paceline.learning.codecs.packing import pack12, packed12_size, unpack12
from paceline.learning.codecs.scales import refuse_odd
from paceline.learning.codecs.union import UnionCodec
from paceline.learning.flat import Flat

CHUNK = 4096
_SHARE = 64
_STRIPS = 16
Indices = NDArray[np.uint32]


class _Run(NamedTuple):
    # Chunks of one width, next to one another: all whole ones, or the last, short one.
    start: int
    width: int
    rows: int
    offset: int

    @property
    def kept(self) -> int:
        return -(-self.width // _SHARE)

    @property
    def record(self) -> int:
        return 4 + packed12_size(self.kept) + -(-self.kept // 4)

    @property
    def values(self) -> slice:
        return slice(self.start, self.start + self.rows * self.width)

    def of(self, raw: Bytes) -> Bytes:
        return raw[self.offset : self.offset + self.rows * self.record].reshape(self.rows, self.record)


class TopkCodec(Codec):
    """The largest values of each chunk: 141 times less than fp32.

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
        return sum(run.rows * run.record for run in _runs(n))

    def _encode(self, values: Flat, out: Bytes) -> int:
        for run in _runs(values.size):
            rows, records = values[run.values].reshape(run.rows, run.width), run.of(out)
            for some in tiles(run.rows, TILE // CHUNK):
                _encode_rows(rows[some], run, records[some])
        return out.size

    def _check(self, raw: Bytes, n: int) -> None:
        self._check_length(raw, n)
        for run in _runs(n):
            records = run.of(raw)
            refuse_odd(_levels(records))
            ends = 4 + packed12_size(run.kept)
            if run.kept % 2 and (records[:, ends - 1] >> 4).any():
                raise BadPayload("topk: the bits after the last index are not zero")
            if run.kept % 4 and (records[:, -1] >> (2 * (run.kept % 4))).any():
                raise BadPayload("topk: the bits after the last code are not zero")
            indices = _indices(records, run)
            if (indices[:, 1:] <= indices[:, :-1]).any() or (indices[:, -1] >= run.width).any():
                raise BadPayload("topk: indices are out of range or not ascending")

    def _decode(self, raw: Bytes, out: Flat) -> None:
        out[:] = 0
        for run in _runs(out.size):
            places, values = _read(raw, run)
            out[run.values][places] = values

    def _accumulate(self, raw: Bytes, weight: np.float32, into: Flat) -> None:
        for run in _runs(into.size):
            places, values = _read(raw, run)
            into[run.values][places] += values * weight


def largest(rows: NDArray[np.float32], kept: int) -> Indices:
    """Find the largest magnitudes of each row; of equal ones the first.

    Args:
        rows: `[r, c]`, finite, c at most 4,096.
        kept: How many to find per row.

    Returns:
        Ascending indices, `[r, kept]`.
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


def _smallest_keys(keys: NDArray[np.uint64], kept: int) -> Indices:
    if keys.shape[1] > kept:
        keys = np.partition(keys, kept - 1, axis=1)[:, :kept]
    indices = (keys & np.uint64(0xFFF)).astype(np.uint32)
    indices.sort(axis=1)
    return indices


def _encode_rows(rows: NDArray[np.float32], run: _Run, records: Bytes) -> None:
    refuse_non_finite(rows)
    kept = run.kept
    indices = largest(rows, kept)
    chosen = np.zeros((len(rows), -(-kept // 4) * 4), np.float32)
    chosen[:, :kept] = np.take_along_axis(rows, indices, axis=1)
    levels, codes = split(chosen, kept)
    ends = 4 + packed12_size(kept)
    records[:, :4] = levels.view(np.uint8)
    records[:, 4:ends] = pack12(indices)
    records[:, ends:] = codes


def _levels(records: Bytes) -> NDArray[np.uint16]:
    return np.ascontiguousarray(records[:, :4]).view("<u2")


def _indices(records: Bytes, run: _Run) -> Indices:
    return unpack12(records[:, 4 : 4 + packed12_size(run.kept)], run.kept)


def _read(raw: Bytes, run: _Run) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    # Where in the run its kept values lie, and what they are.
    records = run.of(raw)
    places = _indices(records, run)
    places += np.arange(0, run.rows * run.width, run.width, dtype=np.uint32)[:, None]
    values = join(_levels(records), np.ascontiguousarray(records[:, 4 + packed12_size(run.kept) :]))
    return places.ravel(), values[:, : run.kept].ravel()


def _runs(n: int) -> list[_Run]:
    whole, rest = divmod(n, CHUNK)
    runs = [_Run(0, CHUNK, whole, 0)] if whole else []
    if rest:
        offset = sum(run.rows * run.record for run in runs)
        runs.append(_Run(whole * CHUNK, rest, 1, offset))
    return runs
