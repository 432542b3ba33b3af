"""Where the time of live peers went, worked out from what they told; and what went over their link.

A peer's main thread trains. Each time that it doesn't is a gap between two inner steps. A gap in which a
round was committed is cut at what the peers told of that round; the others lie between steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

from paceline.core.events import (
    Evaluated,
    PhaseChanged,
    ReduceEnded,
    ResultStaged,
    RoundCommitted,
    StepDone,
)
from paceline.core.records import Phase
from paceline.peer.tail import Told

Tales = Mapping[str, Sequence[Told]]
"""What each peer told, by its name."""
PARTS = (
    "inner steps",
    "between steps",
    "sending",
    "others train",
    "plan",
    "all-reduce",
    "staging",
    "votes",
    "applying",
    "evaluation",
    "after it",
)
"""What a round's time goes into, in order. *sending* is the gap before the first step that is taken while a
round is exchanged; *after it* what a commit brings along besides its evaluation."""
_MARGIN_S = 0.5


class Span(NamedTuple):
    """A stretch of time, in seconds since 1970."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


class Sample(NamedTuple):
    """What had gone over a peer's line at a moment."""

    time: float
    sent: int


@dataclass(frozen=True)
class PeerTimes:
    """One peer, from its first commit to its last.

    Attributes:
        wall_s: Seconds in between.
        rounds: Rounds in between.
        parts_s: Seconds that went into each of `PARTS`.
        step_s: Median seconds of an inner step while nothing was exchanged.
        ahead_s: The same while a round was exchanged; 0 where training waited.
        exchange_s: Median seconds from this peer's last step of a round to the commit.
    """

    wall_s: float
    rounds: int
    parts_s: dict[str, float]
    step_s: float
    ahead_s: float
    exchange_s: float

    @property
    def utilisation(self) -> float:
        """Share of the time that inner steps took."""
        return self.parts_s["inner steps"] / self.wall_s


def peer_times(tales: Tales, name: str) -> PeerTimes:
    """Tell where a peer's time went between its first commit and its last.

    Args:
        tales: What all peers told.
        name: Which peer.

    Raises:
        ValueError: It has not committed two rounds.
    """
    tale = tales[name]
    commits = [told.time for told in tale if isinstance(told.event, RoundCommitted)]
    if len(commits) < 2:
        raise ValueError(f"{name} has committed {len(commits)} rounds: at least two are needed")
    whole = Span(commits[0], commits[-1])
    parts = dict.fromkeys(PARTS, 0.0)
    steps = [(told.time, told.event) for told in tale if isinstance(told.event, StepDone)]
    inside = [(time, step) for time, step in steps if whole.begin < time <= whole.end]
    parts["inner steps"] = sum(step.seconds for _, step in inside)
    ended = whole.begin
    for time, step in inside:
        _share_out(Span(ended, time - step.seconds), step, tales, name, parts)
        ended = time
    _share_out(Span(ended, whole.end), None, tales, name, parts)
    alone = [step.seconds for _, step in inside if not step.ahead]
    ahead = [step.seconds for _, step in inside if step.ahead]
    return PeerTimes(
        whole.seconds,
        len(commits) - 1,
        parts,
        median(alone) if alone else 0.0,
        median(ahead) if ahead else 0.0,
        median(_exchanges(tale)),
    )


def _exchanges(tale: Sequence[Told]) -> list[float]:
    # Of all rounds but the first, which may have begun before anybody else was there.
    found, trained = list[float](), None
    for told in tale:
        if isinstance(told.event, StepDone) and not told.event.ahead:
            trained = told.time
        elif isinstance(told.event, RoundCommitted) and trained is not None:
            found.append(told.time - trained)
    return found[1:] or found or [0.0]


def _share_out(gap: Span, step: StepDone | None, tales: Tales, name: str, parts: dict[str, float]) -> None:
    # Marks that lie before the gap take nothing of it.
    marks = _marks(gap, tales, name)
    if marks is None:
        is_first = step is not None and step.ahead and step.inner_step == 1
        parts["sending" if is_first else "between steps"] += gap.seconds
        return
    at = gap.begin
    for part, mark in marks:
        until = min(max(mark, at), gap.end)
        parts[part] += until - at
        at = until
    parts["after it"] += gap.end - at


def _marks(gap: Span, tales: Tales, name: str) -> list[tuple[str, float]] | None:
    # When each part of the round that was committed in this gap ended; None if none was.
    tale = tales[name]
    committed = [told for told in tale if isinstance(told.event, RoundCommitted)]
    here = [told for told in committed if gap.begin <= told.time <= gap.end]
    if not here:
        return None
    time, round_id = here[-1].time, here[-1].event.round_id  # type: ignore[attr-defined]
    before = max((told.time for told in committed if told.time < time), default=float("-inf"))
    if time == gap.begin:  # the commit from which time counts: what led to it lies before
        return _evaluated(tale, gap, round_id)
    own = [told for told in tale if before < told.time <= time]
    reduced = [t for t in own if isinstance(t.event, ReduceEnded) and t.event.round_id == round_id]
    staged = [t.time for t in own if isinstance(t.event, ResultStaged) and t.event.round_id == round_id]
    applying = [t.time for t in own if isinstance(t.event, PhaseChanged) and t.event.phase == Phase.APPLY]
    marks = [("others train", trained_at(tales, round_id))]
    if reduced:
        last = reduced[-1]
        assert isinstance(last.event, ReduceEnded)
        marks += [("plan", last.time - last.event.seconds), ("all-reduce", last.time)]
    marks += [("staging", each) for each in staged[-1:]]
    marks += [("votes", each) for each in applying[-1:]]
    return [*marks, ("applying", time), *_evaluated(tale, gap, round_id)]


def _evaluated(tale: Sequence[Told], gap: Span, round_id: int) -> list[tuple[str, float]]:
    # It is told when it is over; what comes before it takes milliseconds.
    times = [t.time for t in tale if isinstance(t.event, Evaluated) and t.event.round_id == round_id]
    return [("evaluation", time) for time in times if gap.begin <= time <= gap.end]


def trained_at(tales: Tales, round_id: int) -> float:
    """Tell when the last peer had done its steps for a round.

    Returns:
        Seconds since 1970; minus infinity if nobody told of a step.
    """
    return max(
        (
            told.time
            for tale in tales.values()
            for told in tale
            if isinstance(told.event, StepDone)
            and told.event.round_id == round_id
            and told.event.inner_step <= told.event.of_steps
            and not told.event.ahead
        ),
        default=float("-inf"),
    )


@dataclass(frozen=True)
class PeerBytes:
    """What a peer sent per round.

    Attributes:
        wire: All of it, headers included.
        payload: Parts of the all-reduce.
        board: What it sends when nothing is averaged, for as long as a round lasts: board and heartbeats.
    """

    wire: float
    payload: float
    board: float

    @property
    def rest(self) -> float:
        """Headers, framing and encryption of the parts, and answers to those of others."""
        return self.wire - self.payload - self.board


def peer_bytes(tale: Sequence[Told], samples: Sequence[Sample], quiet: Sequence[Span]) -> PeerBytes:
    """Tell what a peer sent per round between its first commit and its last.

    Args:
        tale: What it told.
        samples: Its counter, at least at the beginning and the end; in order.
        quiet: When nobody averaged.

    Raises:
        ValueError: It was not looked at then.
    """
    commits = [told.time for told in tale if isinstance(told.event, RoundCommitted)]
    whole, rounds = Span(commits[0], commits[-1]), len(commits) - 1
    inside = [sample for sample in samples if whole.begin <= sample.time <= whole.end]
    if rounds < 1 or len(inside) < 2:
        raise ValueError("two commits and two samples between them are needed")
    seen = Span(inside[0].time, inside[-1].time)
    wire = (inside[-1].sent - inside[0].sent) * whole.seconds / seen.seconds / rounds
    reduced = [told.event for told in tale if isinstance(told.event, ReduceEnded) and told.time > whole.begin]
    payload = sum(event.bytes_out for event in reduced if event.round_id) / rounds
    pairs = [
        (later.sent - sample.sent, later.time - sample.time)
        for sample, later in itertools.pairwise(samples)
        if any(span.begin <= sample.time and later.time <= span.end for span in quiet)
    ]
    seconds = sum(each for _, each in pairs)
    rate = sum(sent for sent, _ in pairs) / seconds if seconds else 0.0
    return PeerBytes(wire, payload, rate * whole.seconds / rounds)


def quiet_spans(tales: Tales) -> list[Span]:
    """Find out when nobody averaged, with some time to spare on both sides.

    Returns:
        Spans between the first all-reduce and the last.
    """
    busy = sorted(
        (told.time - told.event.seconds - _MARGIN_S, told.time + _MARGIN_S)
        for tale in tales.values()
        for told in tale
        if isinstance(told.event, ReduceEnded)
    )
    found, until = [], float("inf")
    for begin, end in busy:
        if begin > until:
            found.append(Span(until, begin))
        until = max(until, end) if until != float("inf") else end
    return found


def average(each: Sequence[PeerTimes]) -> PeerTimes:
    """Put the peers' times together.

    Args:
        each: At least one.

    Returns:
        Means of times, so that parts add up, and medians of steps.
    """
    parts = {part: fmean(times.parts_s[part] for times in each) for part in PARTS}
    return PeerTimes(
        fmean(times.wall_s for times in each),
        round(median(times.rounds for times in each)),
        parts,
        median(times.step_s for times in each),
        median(times.ahead_s for times in each),
        median(times.exchange_s for times in each),
    )
