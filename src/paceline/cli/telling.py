"""Events as sentences, for people who watch lines go by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paceline.cli.screen import count, size
from paceline.core import events
from paceline.core.events import Event
from paceline.core.signing import short


def sentence(event: Event) -> str:
    """Tell an event in one line.

    Args:
        event: What happened.

    Returns:
        The line, or "" for routine that nobody wants to read each time.
    """
    tell = _SENTENCES.get(type(event))
    return tell(event) if tell is not None else ""


def _reduce_ended(event: events.ReduceEnded) -> str:
    if event.complete:
        return ""
    blamed = f" ({short(event.blamed)})" if event.blamed else ""
    return f"round {event.round_id}: the all-reduce failed, {event.cause}{blamed}"


_SENTENCES: dict[type[Event], Callable[[Any], str]] = {
    events.PeerStarted: lambda it: (
        f"up as {short(it.peer_id)} on {it.device}, {count(it.parameters)} weights, round {it.round_id}, "
        f"metrics at {it.metrics_address}"
    ),
    events.StepSkipped: lambda it: (
        f"round {it.round_id}: step {it.inner_step} was not finite and is skipped ({it.in_a_row} in a row)"
    ),
    events.WentBackToAnchor: lambda it: f"round {it.round_id}: starts anew from the anchor",
    events.CoordinatorChanged: lambda it: f"{short(it.coordinator)} goes to the front (term {it.term})",
    events.ReduceEnded: _reduce_ended,
    events.AttemptVoided: lambda it: f"round {it.round_id}: attempt {it.attempt} is void, {it.cause}",
    events.RoundCommitted: lambda it: (
        f"round {it.round_id} committed by {it.members} peers: loss {it.loss:.3f} ({it.sync_s:.1f} s)"
    ),
    events.Evaluated: lambda it: f"round {it.round_id}: validation loss {it.val_loss:.3f} nats per byte",
    events.DriftDetected: lambda it: f"round {it.round_id}: these weights are not the committed ones",
    events.StateFetched: lambda it: (
        f"fetched the state of round {it.round_id}: {size(it.size_bytes)} from {len(it.donors)} peers in "
        f"{it.seconds:.1f} s"
    ),
    events.RepairFailed: lambda it: f"the state could not be fetched, it is tried again: {it.cause}",
    events.QuorumMissing: lambda it: f"waits: {it.got} of the {it.needed} peers that a round needs are here",
    events.PeerStopped: lambda it: f"left after round {it.round_id}: {it.cause}",
}
