"""Indices of twelve bits, two in three bytes, the first in the lower bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from paceline.learning.codecs.codec import Bytes


def packed12_size(n: int) -> int:
    """Tell how much room indices take.

    Args:
        n: How many.

    Returns:
        Bytes.
    """
    return -(-3 * n // 2)


def pack12(indices: NDArray[np.uint32]) -> Bytes:
    """Pack rows of indices.

    Args:
        indices: `[r, k]`, each below 4,096.

    Returns:
        `[r, ⌈3k / 2⌉]`; the last four bits are zero when k is odd.
    """
    rows, n = indices.shape
    even = np.zeros((rows, n + n % 2), "<u4")
    even[:, :n] = indices
    pairs = even[:, ::2] | (even[:, 1::2] << np.uint32(12))
    three = np.ascontiguousarray(pairs).view(np.uint8).reshape(rows, -1, 4)[:, :, :3]
    return three.reshape(rows, -1)[:, : packed12_size(n)]


def unpack12(packed: Bytes, n: int) -> NDArray[np.uint32]:
    """Unpack rows of indices.

    Args:
        packed: `[r, ⌈3n / 2⌉]`.
        n: Indices per row.

    Returns:
        `[r, n]`, an array of its own.
    """
    rows = len(packed)
    whole = np.zeros((rows, -(-n // 2) * 3), np.uint8)
    whole[:, : packed.shape[1]] = packed
    first, middle, last = (whole[:, place::3].astype(np.uint32) for place in range(3))
    indices = np.empty((rows, 2 * first.shape[1]), np.uint32)
    indices[:, ::2] = first | ((middle & np.uint32(15)) << np.uint32(8))
    indices[:, 1::2] = (middle >> np.uint32(4)) | (last << np.uint32(4))
    return indices[:, :n]
