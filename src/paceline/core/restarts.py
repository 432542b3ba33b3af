"""When a peer that ended is started again, and when only a person can help.

>>> restarts = Restarts()
>>> [restarts.wait_s(lived_s=3.0, committed=False, chance=0.0) for _ in range(8)]
[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
>>> restarts.wait_s(lived_s=3.0, committed=True, chance=0.0), restarts.count
(1.0, 9)
"""

from __future__ import annotations

FINISHED, REFUSED, INTERRUPTED = 0, 2, 130
"""Exit codes of a peer that stays down: it is done, a person has to mend something, a person stopped it."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""The wait before the first restart, and the one that doubling leads to."""
LONG_LIFE_S = 300.0
"""A peer that lived so long did not fail for what made the one before it fail."""
_JITTER = 0.1


def is_final(code: int) -> bool:
    """Tell whether starting a peer again would be in vain.

    Args:
        code: How it ended: its exit code, negative for a signal.

    Returns:
        False for what may pass: a swarm out of reach, a full disk, a lost process, any signal.
    """
    return code in (FINISHED, REFUSED, INTERRUPTED)


class Restarts:
    """Spaces the restarts of one peer: 1 s, then twice as long each time, up to a minute.

    A life in which the peer committed a round has got it further, and one of five minutes has cost others
    little: after either the waits begin anew.

    Attributes:
        count: Restarts so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._next_s = FIRST_WAIT_S

    def wait_s(self, *, lived_s: float, committed: bool, chance: float) -> float:
        """Count a restart, and say how long to wait before it.

        Args:
            lived_s: How long the peer lived, in seconds.
            committed: Whether it committed a round in that time.
            chance: 0 to 1, drawn anew each time: peers that fell together should not rise together.

        Returns:
            Seconds, up to a tenth more than planned.
        """
        if committed or lived_s >= LONG_LIFE_S:
            self._next_s = FIRST_WAIT_S
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_WAIT_S)
        self.count += 1
        return wait_s * (1.0 + _JITTER * chance)
