"""Timing two ways of doing the same by turns, so that whatever else the machine does slows both alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

_BYTES = {"MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Comparison:
    """What one comparison gave.

    Attributes:
        name: What was done.
        ours_s: Seconds of each repetition of ours.
        theirs_s: Seconds of each repetition of the reference, which ran right after ours.
        reference: What the reference is.
        target: The largest ratio that will do; None when the figure is only shown.
        unit: Of what is compared, if not of time: MB and GB are counted in bytes.
        size_bytes: How much was moved in that time; None where nothing was.
    """

    name: str
    ours_s: list[float]
    theirs_s: list[float]
    reference: str
    target: float | None = None
    unit: str = "s"
    size_bytes: int | None = None

    @property
    def ratio(self) -> float:
        """Ours over theirs: the median over the repetitions, each compared with its neighbour."""
        return median(ours / theirs for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True))

    @property
    def reached(self) -> bool:
        """Whether the ratio is within the target, if there is one."""
        return self.target is None or self.ratio <= self.target

    def as_json(self) -> dict[str, object]:
        """Spell it for a file."""
        return {
            "name": self.name,
            "reference": self.reference,
            "ratio": round(self.ratio, 4),
            "target": self.target,
            "reached": self.reached,
            "unit": "s" if self.unit == "s" else "bytes",
            "size_bytes": self.size_bytes,
            "ours_median_s": median(self.ours_s),
            "ours_min_s": min(self.ours_s),
            "theirs_median_s": median(self.theirs_s),
            "theirs_min_s": min(self.theirs_s),
            "ours_s": self.ours_s,
            "theirs_s": self.theirs_s,
        }


def by_turns(
    ours: Callable[[], object], theirs: Callable[[], object], repetitions: int
) -> tuple[list[float], list[float]]:
    """Time both, A B A B, after one round that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repetition in range(repetitions + 1):
        for work, kept in zip((ours, theirs), seconds, strict=True):
            taken = _timed(work)
            if repetition:
                kept.append(taken)
    return seconds


def _timed(work: Callable[[], object]) -> float:
    # Millions of floats are allocated here; when they are looked through for cycles is not our subject.
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    finally:
        gc.enable()


def table(comparisons: list[Comparison]) -> str:
    """Lay comparisons out for people: milliseconds, and the ratio of each with its target."""
    rows = [("", "median ms", "min ms", "reference", "median ms", "min ms", "ratio", "target")]
    for each in comparisons:
        target = "" if each.target is None else f"<= {each.target:g}{'' if each.reached else '  missed'}"
        ours = (_spelled(median(each.ours_s), each.unit), _spelled(min(each.ours_s), each.unit))
        theirs = (_spelled(median(each.theirs_s), each.unit), _spelled(min(each.theirs_s), each.unit))
        rows.append((each.name, *ours, each.reference, *theirs, f"{each.ratio:.2f}", target))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = {0, 3, 7}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _spelled(figure: float, unit: str) -> str:
    return f"{figure * 1e3:.1f}" if unit == "s" else f"{figure / _BYTES[unit]:.2f} {unit}"
