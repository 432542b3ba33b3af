"""Many days at once, on all cores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from paceline.simulate.day import Day, live_through

_CHUNK = 20


@dataclass
class Tally:
    """Days summed up.

    Attributes:
        days: How many.
        rounds: Rounds committed on all of them.
        virtual_s: Virtual seconds lived through.
        recoveries_s: Virtual seconds from the last fault to a commit that all have, of good days.
        violations: Days on which a promise was broken.
    """

    days: int = 0
    rounds: int = 0
    virtual_s: float = 0.0
    recoveries_s: list[float] = field(default_factory=list)
    violations: list[Day] = field(default_factory=list)

    def add(self, day: Day) -> None:
        """Count a day.

        Args:
            day: How it went.
        """
        self.days += 1
        self.rounds += day.rounds
        self.virtual_s += day.virtual_s
        if day.violation:
            self.violations.append(day)
        else:
            self.recoveries_s.append(day.recovery_s)

    def recovery_s(self, share: float) -> float:
        """Tell within how long a share of the swarms recovered.

        Args:
            share: From 0 to 1.

        Returns:
            Virtual seconds; 0 when none did.
        """
        ordered = sorted(self.recoveries_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def live_through_many(seeds: Sequence[int], peers: tuple[int, int], processes: int) -> Iterator[Day]:
    """Simulate days in several processes.

    Args:
        seeds: Which.
        peers: The least and the largest number of founders.
        processes: How many at once.

    Yields:
        Days as they end, in no particular order.
    """
    live = partial(live_through, peers=peers)
    if processes <= 1:
        yield from map(live, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(live, seeds, chunksize=_CHUNK)
