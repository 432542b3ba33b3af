"""What numbers are taken from others: one that no honest peer could mean must break nothing, signed or not.

>>> rate(100, 4.0), rate(100, 5e-324), rate(-100, 4.0)
(25.0, 0.0, 0.0)
"""

from __future__ import annotations

import math

MOST = 1e12
"""No honest speed or loss is larger, and sums of such numbers stay finite."""
MOST_COUNT = 2**48
"""No honest count is larger: records allow no more (`paceline.core.records.Count`)."""


def bounded(value: float) -> float:
    """Bring a loss within bounds.

    Args:
        value: A finite number.

    Returns:
        The nearest number from `-MOST` to `MOST`.
    """
    return max(-MOST, min(value, MOST))


def counted(value: int) -> int:
    """Bring a count within bounds.

    Args:
        value: Any number.

    Returns:
        The nearest number from 0 to `MOST_COUNT`.
    """
    return max(0, min(value, MOST_COUNT))


def rate(amount: float, seconds: float) -> float:
    """Work out a speed.

    Args:
        amount: What was done, of a size that `float` holds.
        seconds: In which time.

    Returns:
        Amount per second, at most `MOST`; 0, which is not known, when that is no finite number >= 0.
    """
    return speed(amount / seconds) if seconds > 0 else 0.0


def speed(value: float) -> float:
    """Take somebody's word for a speed.

    Args:
        value: Per second.

    Returns:
        The same, at most `MOST`; 0, which is not known, when it is no finite number >= 0.
    """
    return min(value, MOST) if math.isfinite(value) and value >= 0 else 0.0
