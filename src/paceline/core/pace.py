"""When a round has waited long enough: deadlines from the observed arrivals, not from constants to guess."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Protocol

from paceline.core.config import PaceConfig

SLACK_SHARE = 0.2
"""The least patience with stragglers, as a share of the time that the median peer took."""
SLACK_S = 1.0
"""The least patience with stragglers in seconds: a heartbeat may be that late."""
DEVIATIONS = 3.0
"""Patience in median absolute deviations: beyond three, a peer is not merely having a slow round."""

MOST_PATIENT_ATTEMPT = 3
"""From this attempt on, none gets more time than the one before."""


def reduce_limit_s(pace: PaceConfig, attempt: int) -> float:
    """Decide how long one attempt at an all-reduce may take.

    Lines that are too narrow for `reduce_s` must not make a swarm try in vain for ever: each attempt gets
    twice the time of the one before, and the attempts of a round are counted on from the one that the last
    round took. A peer that falls silent is noticed after `stall_s` all the same.

    Args:
        pace: The run's limits.
        attempt: The attempt's number.

    Returns:
        Seconds: `reduce_s` to eight times that, the same on every peer.
    """
    return float(pace.reduce_s * 2 ** min(attempt, MOST_PATIENT_ATTEMPT))


class Trained(Protocol):
    """How far a peer has trained: its own progress, or another's heartbeat."""

    @property
    def inner_step(self) -> int:
        """Steps done."""

    @property
    def samples(self) -> int:
        """Sequences trained on."""

    @property
    def samples_per_s(self) -> float:
        """Recent speed."""


def left_s(trained: Trained, steps: int) -> float | None:
    """Tell how long a peer takes for more steps at its recent speed.

    Args:
        trained: How far it has trained.
        steps: How many more.

    Returns:
        Seconds; None while it has not told of a step.
    """
    if not (trained.inner_step and trained.samples and trained.samples_per_s):
        return None
    return steps * trained.samples / trained.inner_step / trained.samples_per_s


def closing_s(arrivals_s: Sequence[float]) -> float:
    """Foresee when training ends for a swarm whose peers go on as they do.

    The coordinator goes on without whoever can't come before the deadline that the others set.

    Args:
        arrivals_s: When each peer finishes training, in seconds from the start of the round; at least one.

    Returns:
        When the last of those finishes for whom the others would wait.
    """
    ordered = sorted(arrivals_s)
    for here, (last, following) in enumerate(pairwise(ordered), start=1):
        deadline = straggler_deadline(ordered[:here], len(ordered))
        if deadline is not None and following > deadline:
            return last
    return ordered[-1]


def straggler_deadline(arrivals_s: Sequence[float], num_expected: int) -> float | None:
    """Decide when to stop waiting for the rest.

    With a = median of the arrivals and d = median(|x - a|), the deadline is
    a + max(DEVIATIONS * d, SLACK_SHARE * a, SLACK_S).

    Args:
        arrivals_s: Seconds from the start of the round at which peers finished training.
        num_expected: How many peers are training or done.

    Returns:
        Seconds from the start of the round, or None while fewer than half have arrived.
    """
    if not arrivals_s or 2 * len(arrivals_s) < num_expected:
        return None
    middle = median(arrivals_s)
    deviation = median(abs(arrival - middle) for arrival in arrivals_s)
    return middle + max(DEVIATIONS * deviation, SLACK_SHARE * middle, SLACK_S)
