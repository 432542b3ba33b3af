"""The same knowledge from event files: what peers of a local run wrote down of themselves."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import singledispatchmethod

from paceline.core import events
from paceline.core.config import RunConfig
from paceline.core.events import Event
from paceline.core.records import Phase
from paceline.watch.bounds import bounded, counted, rate
from paceline.watch.chronicle import Chronicle
from paceline.watch.crowd import Crowd
from paceline.watch.rounds import Applied
from paceline.watch.sight import Sight

_SMOOTHING = 0.3


@dataclass
class _Sums:
    # Over the steps of one peer in one round.
    round_id: int
    inner_step: int = 0
    steps: int = 0
    samples: int = 0
    loss: float = 0.0

    def add(self, event: events.StepDone, samples: int) -> None:
        self.inner_step, self.steps, self.samples = event.inner_step, self.steps + 1, self.samples + samples
        self.loss += bounded(event.loss)


class Telling:
    """Takes events into a crowd and a chronicle, in the order of their times."""

    def __init__(self, run: RunConfig, crowd: Crowd, chronicle: Chronicle) -> None:
        """Begin.

        Args:
            run: The run's parameters.
            crowd: The peers.
            chronicle: The rounds.
        """
        self._run, self._crowd, self._chronicle = run, crowd, chronicle
        self._sums: dict[str, _Sums] = {}

    def take(self, peer_id: str, time: float, event: Event) -> None:
        """Take in one event.

        Args:
            peer_id: Whose file it is in.
            time: When it happened, in seconds since 1970.
            event: What happened.
        """
        self._chronicle.is_stale = True
        self._chronicle.vouch_for(peer_id)
        sight = self._crowd.sight(peer_id, time)
        sight.is_heard = True
        self._note(_within_bounds(event), sight, time)
        if not isinstance(event, events.PeerRestarting):
            sight.seen_at = max(sight.seen_at, time)
        self._crowd.first_round = self._crowd.first_round or sight.round_id

    @singledispatchmethod
    def _note(self, event: Event, sight: Sight, time: float) -> None:
        """What is left says only that the peer is alive."""

    @_note.register
    def _(self, event: events.PeerStarted, sight: Sight, time: float) -> None:
        if sight.round_id and sight.standing(time, self._run.pace.lease_s) == "lost":
            sight.was_lost(time)
        sight.finished = False
        sight.metrics_address = event.metrics_address
        sight.bytes_in, sight.bytes_out = 0, 0
        sight.move(Phase.TRAIN, event.round_id, time)

    @_note.register
    def _(self, event: events.StepDone, sight: Sight, time: float) -> None:
        sums = self._sums.get(sight.peer_id)
        if sums is None or sums.round_id != event.round_id or event.inner_step <= sums.inner_step:
            sums = self._sums[sight.peer_id] = _Sums(event.round_id)
        samples = event.tokens // self._run.model.seq_len
        sums.add(event, samples)
        if speed := rate(samples, event.seconds):
            before = sight.samples_per_s or speed
            sight.samples_per_s = before + _SMOOTHING * (speed - before)
        if event.ahead:
            return  # it shows once the round is entered
        sight.move(sight.phase, event.round_id, time)
        sight.inner_step, sight.samples, sight.loss = event.inner_step, sums.samples, sums.loss / sums.steps
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None:
            facts.note_step(sight.peer_id, event.inner_step, sight.loss)

    @_note.register
    def _(self, event: events.PhaseChanged, sight: Sight, time: float) -> None:
        with suppress(ValueError):  # a phase of another version
            sight.move(Phase(event.phase), event.round_id, time)

    @_note.register
    def _(self, event: events.CoordinatorChanged, sight: Sight, time: float) -> None:
        sight.term, sight.coordinator = event.term, event.coordinator
        sight.seen_at = max(sight.seen_at, time)
        self._crowd.follow(event.term, event.coordinator, sight.peer_id)
        self._crowd.look_ahead(time)

    @_note.register
    def _(self, event: events.RoundPlanned, sight: Sight, time: float) -> None:
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None:
            facts.begun[event.term, event.attempt] = sight.peer_id

    @_note.register
    def _(self, event: events.ReduceEnded, sight: Sight, time: float) -> None:
        sight.bytes_in += event.bytes_in
        sight.bytes_out = (sight.bytes_out or 0) + event.bytes_out
        sight.bytes_counted += event.bytes_out
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None and event.blamed and not event.complete:
            facts.blamed.setdefault(event.attempt, set()).add(event.blamed)

    @_note.register
    def _(self, event: events.AttemptVoided, sight: Sight, time: float) -> None:
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None:
            planned = [place for place, author in facts.begun.items() if author == sight.peer_id]
            terms = [term for term, attempt in planned if attempt == event.attempt]
            facts.voids[max(terms, default=sight.term), event.attempt] = event.cause

    @_note.register
    def _(self, event: events.RoundCommitted, sight: Sight, time: float) -> None:
        self._crowd.stand(sight.peer_id, event.digest)
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None:
            facts.see(event.digest, time)
            facts.told[sight.peer_id] = Applied(event.digest, event.loss, event.members)

    @_note.register
    def _(self, event: events.Evaluated, sight: Sight, time: float) -> None:
        sight.val_loss = event.val_loss
        facts = self._chronicle.facts_of(event.round_id)
        if facts is not None:
            facts.note_val_loss(sight.peer_id, int(1000 * time), event.val_loss)

    @_note.register
    def _(self, event: events.StateFetched, sight: Sight, time: float) -> None:
        sight.move(Phase.TRAIN, event.round_id + 1, time)

    @_note.register
    def _(self, event: events.CreditsCounted, sight: Sight, time: float) -> None:
        sight.claimed = event.balance

    @_note.register
    def _(self, event: events.PeerStopped, sight: Sight, time: float) -> None:
        sight.move(Phase.LEAVE, sight.round_id, time)
        sight.finished = event.cause == "finished" or event.round_id >= self._run.rounds

    @_note.register
    def _(self, event: events.PeerRestarting, sight: Sight, time: float) -> None:
        sight.seen_at = min(sight.seen_at, time - self._run.pace.lease_s)


def _within_bounds(event: Event) -> Event:
    # A file holds anything: a count below 0, or one that no float holds, fails whoever works with it.
    odd = {name: counted(value) for name, value in event if type(value) is int and counted(value) != value}
    return event.model_copy(update=odd) if odd else event
