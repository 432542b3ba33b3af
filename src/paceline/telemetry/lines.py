"""Events as plain lines for people.

>>> from paceline.core.events import QuorumMissing
>>> describe(QuorumMissing(got=1, needed=3))
'waiting: 1 of the 3 peers that a round needs are here'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from paceline.core import events
from paceline.core.events import Event
from paceline.core.nicknames import named


def _reduced(event: events.ReduceEnded) -> str:
    what = f"round {event.round_id}: attempt {event.attempt}"
    if event.complete:
        sent, got = event.bytes_out / 1e6, event.bytes_in / 1e6
        return f"{what} averaged in {event.seconds:.1f} s ({sent:.1f} MB sent, {got:.1f} MB received)"
    blamed = f" (blamed: {named(event.blamed)})" if event.blamed else ""
    return f"{what} failed after {event.seconds:.1f} s: {event.cause or 'incomplete'}{blamed}"


def _started(event: events.PeerStarted) -> str:
    what = f"{named(event.peer_id)} is up in run {event.run_id}, round {event.round_id}"
    return f"{what}: {event.parameters:,} weights on {event.device}, metrics at {event.metrics_address}"


def _dropped(event: events.DonorDropped) -> str:
    return f"{named(event.peer_id)} gave no usable state or history: {event.cause}"


def _led(event: events.CoordinatorChanged) -> str:
    who = "this peer" if event.is_me else named(event.coordinator)
    return f"{who} is at the front in term {event.term}"


def _fetched(event: events.StateFetched) -> str:
    donors = ", ".join(map(named, event.donors))
    size = f"{event.size_bytes / 1e6:.1f} MB"
    return f"state of round {event.round_id} fetched: {size} from {donors} in {event.seconds:.1f} s"


def _stalled(event: events.RoundStalled) -> str:
    whom = named(event.coordinator) if event.coordinator else "nobody"
    what = f"round {event.round_id}: no end after {event.seconds:.0f} s of waiting"
    return f"{what}, though enough peers are here; following {whom} in term {event.term}"


_LINES: dict[type[Event], str | Callable[[Any], str]] = {
    events.PeerStarted: _started,
    events.StepDone: "round {round_id}: step {inner_step} of {of_steps}, loss {loss:.3f}",
    events.StepSkipped: (
        "round {round_id}: step {inner_step} skipped, loss or gradient was not finite ({in_a_row} in a row)"
    ),
    events.WentBackToAnchor: "round {round_id}: too many skipped steps, back to the anchor",
    events.PhaseChanged: "round {round_id}: {phase}",
    events.CoordinatorChanged: _led,
    events.RoundPlanned: "round {round_id}: attempt {attempt} of term {term} planned with {members} members",
    events.ReduceEnded: _reduced,
    events.ResultStaged: "round {round_id}: result of attempt {attempt} on disk in {seconds:.1f} s",
    events.AttemptVoided: "round {round_id}: attempt {attempt} given up: {cause}",
    events.RoundCommitted: (
        "round {round_id} committed: loss {loss:.3f}, {members} members, {sync_s:.1f} s, commit {digest:.8}"
    ),
    events.Evaluated: "round {round_id}: validation loss {val_loss:.4f} nats per token",
    events.DriftDetected: (
        "round {round_id}: these weights ({ours:.8}) are not the committed ones ({theirs:.8}); repairing"
    ),
    events.StateFetched: _fetched,
    events.RepairFailed: "state could not be fetched, trying again: {cause}",
    events.QuorumMissing: "waiting: {got} of the {needed} peers that a round needs are here",
    events.RoundStalled: _stalled,
    events.CreditsCounted: "round {round_id}: {balance} credits",
    events.DonorDropped: _dropped,
    events.SetAside: "{cause}; the old files are kept in {folder}",
    events.PeerStopped: "stopped after round {round_id}: {cause}",
    events.PeerRestarting: "ended: {cause}; starts again in {wait_s:.0f} s (restart {restarts})",
}


def describe(event: Event) -> str:
    """Put an event into words.

    Args:
        event: Any event.

    Returns:
        One line without time or name of the peer. Line breaks and control characters, which may come from
        another peer, are escaped.
    """
    line = _LINES.get(type(event))
    if line is None:
        text = f"{event.name} {event.model_dump_json()}"
    elif isinstance(line, str):
        text = line.format(**event.model_dump())
    else:
        text = line(event)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class LogSink:
    """Writes a line per event, such as `12:30:05 peer-1 round 3 committed: …`. Steps are left out."""

    def __init__(
        self,
        write: Callable[[str], object] = _to_standard_error,
        *,
        label: str = "",
        steps: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Choose where lines go.

        Args:
            write: Takes a line without its end.
            label: Stands before every line: the peer's name, when several share a console.
            steps: Whether every inner step is worth a line.
            clock: Tells the time in seconds since 1970.
        """
        self._write = write
        self._label = f"{label} " if label else ""
        self._steps = steps
        self._clock = clock

    def __call__(self, event: Event) -> None:
        """Write its line.

        Args:
            event: Any event.
        """
        if self._steps or not isinstance(event, events.StepDone):
            time_of_day = time.strftime("%H:%M:%S", time.localtime(self._clock()))
            self._write(f"{time_of_day} {self._label}{describe(event)}")
