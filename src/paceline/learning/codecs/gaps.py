"""Ascending indices, coded by the gaps between them (Golomb 1966, with Rice's powers of two).

    g_i = p_i - p_{i-1} - 1,  p_{-1} = -1         q_i = ⌊g_i / 2^s⌋,  r_i = g_i mod 2^s

The remainders r travel as s planes of a bit each, the lowest first, and the quotients q in a bitmap, as so
many zeros and then a one each. Bits fill bytes from the lowest on; planes and bitmap end with whole bytes.

    p_i = (o_i - i) · 2^s + r_0 + … + r_i + i     where o_i is the place of the i-th one

So whole arrays are read at once. No two payloads mean the same indices, and any with as many ones as it has
remainders means some: how far they reach is told by counting bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload
from paceline.learning.codecs.codec import Bytes

Places = NDArray[np.int64]
MOST_SHIFT = 8
"""So that a remainder is a byte."""


def planes_size(n: int, shift: int) -> int:
    """Tell how much room remainders take.

    Args:
        n: How many indices.
        shift: s, at most 8.

    Returns:
        Bytes.
    """
    return shift * -(-n // 8)


def bitmap_size(n: int, shift: int, width: int) -> int:
    """Tell how much room quotients take at most.

    Args:
        n: How many indices.
        shift: s.
        width: Indices are below it.

    Returns:
        Bytes.
    """
    return -(-(n + ((width - n) >> shift)) // 8) if n else 0


def pack_gaps(places: Places, shift: int, width: int) -> tuple[Bytes, Bytes]:
    """Code indices.

    Args:
        places: `[n]`, ascending.
        shift: s, at most 8.
        width: Indices are below it.

    Returns:
        Planes, `[planes_size(n, shift)]`, and the bitmap, `[bitmap_size(n, shift, width)]`.
    """
    gaps = np.diff(places, prepend=-1)
    gaps -= 1
    remainders = gaps.astype(np.uint8)
    planes = np.empty((shift, -(-gaps.size // 8)), np.uint8)
    for place, plane in enumerate(planes):
        plane[:] = np.packbits(remainders & np.uint8(1 << place), bitorder="little")
    gaps >>= shift
    gaps[1:] += 1
    bits = np.zeros(8 * bitmap_size(gaps.size, shift, width), np.bool_)
    bits[np.cumsum(gaps, out=gaps)] = True
    return planes.ravel(), np.packbits(bits, bitorder="little")


def unpack_gaps(planes: Bytes, bitmap: Bytes, n: int, shift: int) -> Places:
    """Read indices.

    Args:
        planes: `[planes_size(n, shift)]`.
        bitmap: `[b]`, with n ones.
        n: How many indices.
        shift: s, at most 8.

    Returns:
        `[n]`, an array of its own.
    """
    places = np.flatnonzero(np.unpackbits(bitmap, bitorder="little").view(np.bool_))
    if shift:
        places <<= shift
        places -= np.arange(n) * ((1 << shift) - 1)
        # Eight bytes of one bit each are shifted at a time: none of them overflows.
        bits = np.unpackbits(planes, bitorder="little").view(np.uint64).reshape(shift, -(-n // 8))
        bits <<= np.arange(shift, dtype=np.uint64)[:, None]
        remainders = np.bitwise_or.reduce(bits, axis=0).view(np.uint8)
        places += np.cumsum(remainders[:n], dtype=np.int64)
    return places


def refuse_bad_gaps(planes: Bytes, bitmap: Bytes, n: int, shift: int, width: int) -> None:
    """Refuse what `pack_gaps` does not make, without reading it.

    Args:
        planes: `[planes_size(n, shift)]`, untrusted.
        bitmap: `[b]`, untrusted; zeros at its end are as good as none.
        n: How many indices are owed.
        shift: s, at most 8.
        width: What indices must be below.

    Raises:
        BadPayload: There are not n indices, one is out of range, or unused bits are not zero.
    """
    if _count(bitmap) != n:
        raise BadPayload("the bitmap does not have a one for each index")
    if not n:
        return
    by_plane = planes.reshape(shift, -(-n // 8))
    if n % 8 and (by_plane[:, -1] >> (n % 8)).any():
        raise BadPayload("the bits after the last index are not zero")
    # The sum of all gaps: the zeros before the last one are quotients, and ones in planes are remainders.
    last = bitmap.size - 1 - int((bitmap[::-1] != 0).argmax())
    quotients = 8 * last + int(bitmap[last]).bit_length() - n
    remainders = sum(_count(plane) << place for place, plane in enumerate(by_plane))
    if (quotients << shift) + remainders + n > width:
        raise BadPayload("indices are out of range")


def _count(packed: Bytes) -> int:
    return int(_ONES.take(packed).sum(dtype=np.int64))


_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)
