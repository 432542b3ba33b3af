"""When a round has waited long enough: deadlines from the observed arrivals, not from constants to guess."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

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


def may_arrive(trained_s: float, inner_step: int, of_steps: int, deadline_s: float) -> bool:
    """Judge by a peer's pace so far whether waiting for it may be worth it.

    Args:
        trained_s: Seconds into the round when it had done so much.
        inner_step: Steps that it had done.
        of_steps: Steps to do.
        deadline_s: Seconds into the round until which others would wait.

    Returns:
        False when it would finish only after the deadline, should it go on as before; a peer that has not
        told of a step yet may do anything.
    """
    return inner_step == 0 or trained_s * of_steps / inner_step <= deadline_s


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
