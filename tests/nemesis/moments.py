"""Moments of a round at which somebody is struck, and how one finds out that the strike came in time.

A peer writes down at once what it does. The harness follows the victim's file closely, strikes when the
moment has come, and reads afterwards how far the victim got: a strike that came too late is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paceline.core.events import PhaseChanged, ReduceEnded, RoundCommitted, RoundPlanned, StepDone
from paceline.core.records import Phase
from paceline.peer.tail import Told

Tale = Iterable[Told]
Question = Callable[[Tale, Tale, int], bool]
"""Asks something of what the victim told, what all others told, and the round."""


@dataclass(frozen=True)
class Moment:
    """A part of a round.

    Attributes:
        name: As people say it: "in the reduce".
        has_come: Whether it is time to strike.
        is_over: Whether the victim went on to something later.
        watches_others: Whether what others tell matters.
        commits_before: Whether a coordinator has published its commit before this moment, or not yet.
    """

    name: str
    has_come: Question
    is_over: Question
    watches_others: bool = False
    commits_before: bool = False


def entered(tale: Tale, round_id: int, phase: Phase) -> bool:
    """Whether somebody entered a phase of a round."""
    return any(
        isinstance(t.event, PhaseChanged) and (t.event.round_id, t.event.phase) == (round_id, phase)
        for t in tale
    )


def _half_trained(victim: Tale, others: Tale, round_id: int) -> bool:
    return any(
        isinstance(t.event, StepDone)
        and t.event.round_id == round_id
        and 2 * t.event.inner_step >= t.event.of_steps
        for t in victim
    )


def _planned(victim: Tale, others: Tale, round_id: int) -> bool:
    return any(isinstance(t.event, RoundPlanned) and t.event.round_id == round_id for t in victim)


def _averaged(victim: Tale, others: Tale, round_id: int) -> bool:
    return any(isinstance(t.event, ReduceEnded) and t.event.round_id == round_id for t in victim)


def _committed(victim: Tale, others: Tale, round_id: int) -> bool:
    return any(isinstance(t.event, RoundCommitted) and t.event.round_id >= round_id for t in victim)


def _reduces(victim: Tale, others: Tale, round_id: int) -> bool:
    return entered(victim, round_id, Phase.REDUCE)


def _attests(victim: Tale, others: Tale, round_id: int) -> bool:
    return entered(victim, round_id, Phase.ATTEST)


def _applies(victim: Tale, others: Tale, round_id: int) -> bool:
    return entered(victim, round_id, Phase.APPLY)


def _commit_is_out(victim: Tale, others: Tale, round_id: int) -> bool:
    # Somebody has read the commit, so it has left the coordinator, which has not begun to apply it.
    return entered(others, round_id, Phase.APPLY)


TRAIN = Moment("while it trains", _half_trained, _reduces)
PLAN = Moment("just after it has named the roster", _planned, _reduces)
REDUCE = Moment("in the middle of the all-reduce", _reduces, _averaged)
AVERAGED = Moment("just after the all-reduce", _averaged, _committed)
ATTEST = Moment("while receipts are collected", _attests, _applies)
COMMIT = Moment("when the first peer has seen its commit", _commit_is_out, _applies, True, True)
APPLY = Moment("while it applies the commit", _applies, _committed, commits_before=True)
