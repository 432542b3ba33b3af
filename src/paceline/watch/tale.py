"""What one peer's event file tells of one round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from pathlib import Path
from typing import get_args

from paceline.core import events
from paceline.core.events import Event
from paceline.core.records import GlobalState
from paceline.peer.tail import Told, parse
from paceline.watch.evidence import Blame, Evidence, Glimpse
from paceline.watch.picture import Standing

_STANDINGS: tuple[Standing, ...] = get_args(Standing)


class Tale:
    """One event file, with what was written before it grew too large."""

    def __init__(self, path: Path) -> None:
        """Note where it is.

        Args:
            path: `events.jsonl` of a state folder.
        """
        self._path = path

    def peers(self) -> set[str]:
        """Tell whose file it is.

        Returns:
            Peer ids: one, unless the folder got another key.
        """
        started = (parse(line) for line in self._lines() if b'"PeerStarted"' in line)
        return {t.event.peer_id for t in started if t and isinstance(t.event, events.PeerStarted)}

    def of_round(self, round_id: int, tokens_per_sample: int) -> RoundTale:
        """Read what it tells of a round.

        Args:
            round_id: The round.
            tokens_per_sample: Tokens of one sequence.

        Returns:
            What it tells.
        """
        # Most lines are steps of other rounds, and parsing is what takes time.
        mine = b'"round_id":%d,' % round_id
        lines = (line for line in self._lines() if b'"StepDone"' not in line or mine in line)
        told = [one for line in lines if (one := parse(line)) is not None]
        whose = [one.event.peer_id for one in told if isinstance(one.event, events.PeerStarted)]
        return RoundTale(whose[-1] if whose else "", round_id, tokens_per_sample, told)

    def _lines(self) -> Iterator[bytes]:
        for file in (self._path.with_name(f"{self._path.name}.1"), self._path):
            if file.is_file():
                with file.open("rb") as stream:
                    yield from stream


@dataclass
class RoundTale:
    """What a peer wrote down of one round.

    Attributes:
        peer_id: Who; empty when the file does not say.
        round_id: The round.
        tokens_per_sample: Tokens of one sequence.
        told: Its events in order; of steps only those of this round.
    """

    peer_id: str
    round_id: int
    tokens_per_sample: int
    told: list[Told]

    def planned_at(self, state: GlobalState | None) -> float:
        """Tell when the plan was made that led to the commit, as far as this peer knows.

        Args:
            state: The commit; None while the round goes on.

        Returns:
            Seconds since 1970; infinite when it does not know.
        """
        if state is None:
            return float("inf")
        begins = [_begin(told, state) for told in self._of_round()]
        return min((at for at in begins if at is not None), default=float("inf"))

    def added_to(self, found: Evidence) -> Evidence:
        """Add what it knows of everybody.

        Args:
            found: What is known.

        Returns:
            What is known then.
        """
        voids, blames = dict(found.voids), list(found.blames)
        for _, event in self._of_round():
            if isinstance(event, events.AttemptVoided):
                voids.setdefault(event.attempt, event.cause)
            if isinstance(event, events.ReduceEnded) and not event.complete:
                blames.append(Blame(self.peer_id, event.attempt, event.cause, event.blamed))
        begun = min((at for at, event in self.told if _begins(event, self.round_id)), default=None)
        known = [at for at in (begun, found.begun_at) if at is not None]
        begun_at = min(known, default=None)
        return replace(found, voids=voids, blames=tuple(blames), begun_at=begun_at)

    def seen_by_itself(self, found: Evidence, planned_at: float) -> Evidence:
        """Add what it knows of itself.

        Args:
            found: What is known.
            planned_at: When the round was planned, in seconds since 1970; infinite while it goes on.

        Returns:
            What is known then.
        """
        before = [one for one in self.told if one.time <= planned_at]
        after = next((one for one in self.told if one.time > planned_at), None)
        life, whole = _Life(self), _Life(self)
        for one in before:
            life.live(one)
        for one in self.told:
            whole.live(one)
        reduced = [event for _, event in self._of_round() if isinstance(event, events.ReduceEnded)]
        return replace(
            found,
            glimpse=life.glimpse(planned_at, after, found.run.pace.lease_s) if before else None,
            started_at=life.starts[-1] if len(life.starts) > 1 else None,
            trained=whole.trained if found.trained is None else found.trained,
            took_part=frozenset(event.attempt for event in reduced),
            watched=True,
        )

    def _of_round(self) -> Iterator[Told]:
        return (one for one in self.told if getattr(one.event, "round_id", None) == self.round_id)


@dataclass
class _Life:
    tale: RoundTale
    standing: Standing = "train"
    round_id: int = 0
    samples: int = 0
    ahead: int = 0
    trained: int = 0
    head: str = ""
    last: float = 0.0
    starts: list[float] = field(default_factory=list)

    def live(self, one: Told) -> None:
        self.last = one.time
        self._note(one.event)

    def glimpse(self, at: float, after: Told | None, lease_s: float) -> Glimpse:
        # Who is silent in its file is at work, unless it was started again next, or is never heard again.
        standing, silent_s = self.standing, 0.0
        ended = isinstance(after.event if after else None, events.PeerStarted | events.PeerRestarting)
        if at != float("inf") and (ended or (after is None and at - self.last >= lease_s)):
            silent_s = at - self.last
            standing = standing if standing in ("leave", "finished") else "lost"
        return Glimpse(self.last, standing, self.round_id, self.samples, self.head, silent_s)

    def _enter(self, round_id: int) -> None:
        if round_id != self.round_id:
            self.round_id, self.samples = round_id, 0

    @singledispatchmethod
    def _note(self, event: Event) -> None:
        """What is left says only that the peer is alive."""

    @_note.register
    def _(self, event: events.PeerStarted) -> None:
        self.starts.append(self.last)
        self.standing, self.round_id, self.samples = "train", event.round_id, 0

    @_note.register
    def _(self, event: events.StepDone) -> None:
        samples = event.tokens // self.tale.tokens_per_sample
        if event.ahead:
            self.ahead += samples
            return
        self._enter(event.round_id)
        self.samples += samples
        self.trained = max(self.trained, self.samples)

    @_note.register
    def _(self, event: events.WentBackToAnchor) -> None:
        self.samples = 0

    @_note.register
    def _(self, event: events.PhaseChanged) -> None:
        self._enter(event.round_id)
        self.standing = next((one for one in _STANDINGS if one == event.phase), "train")

    @_note.register
    def _(self, event: events.RoundCommitted) -> None:
        self._enter(event.round_id + 1)
        if self.round_id == self.tale.round_id:  # of steps ahead it has only those of this round
            self.samples, self.ahead = self.samples + self.ahead, 0
            self.trained = max(self.trained, self.samples)
        self.head = event.digest

    @_note.register
    def _(self, event: events.StateFetched) -> None:
        self._enter(event.round_id + 1)
        self.head = ""

    @_note.register
    def _(self, event: events.PeerStopped) -> None:
        causes: dict[str, Standing] = {"finished": "finished", "asked": "leave"}
        self.standing = causes.get(event.cause, "lost")

    @_note.register
    def _(self, event: events.PeerRestarting) -> None:
        self.standing = "lost"


def _begin(told: Told, state: GlobalState) -> float | None:
    # No later than what is seen of it, in the order of what tells it best.
    match told.event:
        case events.RoundPlanned(term=state.term, attempt=state.attempt):
            return told.time
        case events.ReduceEnded(complete=True, attempt=state.attempt, seconds=seconds):
            return told.time - seconds
        case events.RoundCommitted():
            return told.time
        case _:
            return None


def _begins(event: Event, round_id: int) -> bool:
    match event:
        case events.RoundCommitted():
            return event.round_id == round_id - 1
        case events.StepDone() | events.PhaseChanged():
            return event.round_id == round_id == 1
        case _:
            return False
