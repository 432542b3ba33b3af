"""Positive numbers in two bytes: the upper half of a float32 (bfloat16).

Scales and levels travel so. Half precision would take as many bytes, but pseudo-gradients are small: below
6e-5 it loses digits, and below 3e-8 everything. Eight bits of mantissa are plenty for a scale, the product of
one with a code of up to eight bits is exact in float32, and the range is that of float32. Subnormal numbers
are neither made nor taken, so that a machine that flushes them agrees with one that does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import BadPayload

Halves = NDArray[np.uint16]
LARGEST = 0x7F7F
"""The bits of the largest finite number."""
_SMALLEST = 0x0080


def narrow(values: NDArray[np.float32], largest: int = LARGEST) -> Halves:
    """Round to nearest even; what is too large becomes the largest, what is below 2^-126 zero.

    Args:
        values: float32, zero or more; infinite counts as too large.
        largest: Bits of the largest number wanted.

    Returns:
        The bits, in the same shape.
    """
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded = np.minimum(rounded, np.uint32(largest))
    rounded[rounded < _SMALLEST] = 0
    narrowed: Halves = rounded.astype(np.uint16)
    return narrowed


def widen(bits: Halves) -> NDArray[np.float32]:
    """Read numbers; exact.

    Args:
        bits: What `narrow` made.

    Returns:
        float32, in the same shape.
    """
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def refuse_odd(bits: Halves, largest: int = LARGEST) -> None:
    """Refuse what `narrow` does not make.

    Args:
        bits: Untrusted.
        largest: Bits of the largest number allowed.

    Raises:
        BadPayload: A number is negative, subnormal, too large or not a number.
    """
    if bits.size and (bits.max() > largest or ((bits > 0) & (bits < _SMALLEST)).any()):
        raise BadPayload("a scale or level is negative, too small, too large or not a number")
