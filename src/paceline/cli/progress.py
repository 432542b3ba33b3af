"""How a local run stands: a fold over the events of its peers, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from paceline.core import events
from paceline.core.config import RunConfig
from paceline.core.events import Event
from paceline.core.nicknames import named, nickname

_SMOOTHING = 0.2


@dataclass(frozen=True)
class Rider:
    """One peer, as its own events describe it.

    Attributes:
        name: `peer-1` and so on.
        peer_id: Its identity; empty until it is up.
        parameters: Number of weights of its model.
        phase: What it does now.
        round_id: The round it works on.
        inner_step: Inner steps done in this round.
        loss: Loss of its last step, nats per token; None before the first.
        tokens_per_s: Its speed over the last steps.
        bytes_in: Bytes of parts received in all attempts.
        bytes_out: Bytes of parts sent in all attempts.
        balance: Its credits.
        ended: Why its process ended; None while it runs.
        finished: Whether it saw the run to its end.
        trouble: Why it is to be started again; empty while it is up.
    """

    name: str
    peer_id: str = ""
    parameters: int = 0
    phase: str = "starting"
    round_id: int = 0
    inner_step: int = 0
    loss: float | None = None
    tokens_per_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    balance: int = 0
    ended: str | None = None
    finished: bool = False
    trouble: str = ""

    @property
    def called(self) -> str:
        """Its name here, and its nickname as soon as it has one."""
        return f"{self.name} {nickname(self.peer_id)}" if self.peer_id else self.name

    def after(self, event: Event) -> Rider:
        """Advance by one event.

        Args:
            event: What happened to this peer.

        Returns:
            How it stands then.
        """
        advance = _ADVANCES.get(type(event))
        return advance(self, event) if advance is not None else self


@dataclass
class Progress:
    """The whole run.

    Attributes:
        run: The run's parameters.
        riders: Every peer by name.
        front: Peer id of the coordinator, of the latest term that anybody saw.
        term: That term.
        losses: Training loss of every committed round, nats per token.
        val_losses: Validation loss by commit, nats per token; 0 is the start.
        steps: For each peer, pairs of global inner step and loss.
        voided: Every attempt given up, as round and attempt.
        members: Size of the last committed roster.
    """

    run: RunConfig
    riders: dict[str, Rider]
    front: str = ""
    term: int = -1
    losses: dict[int, float] = field(default_factory=dict)
    val_losses: dict[int, float] = field(default_factory=dict)
    steps: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    voided: set[tuple[int, int]] = field(default_factory=set)
    members: int = 0

    def take(self, name: str, event: Event) -> None:
        """Take in one event.

        Args:
            name: Whose.
            event: What happened.
        """
        self.riders[name] = self.riders[name].after(event)
        match event:
            case events.StepDone():
                step = self.run.timetable.ends_at(event.round_id - 1) + event.inner_step
                self.steps.setdefault(name, []).append((step, event.loss))
            case events.RoundCommitted():
                self.losses.setdefault(event.round_id, event.loss)
                self.members = event.members
            case events.Evaluated():
                self.val_losses.setdefault(event.round_id, event.val_loss)
            case events.AttemptVoided():
                self.voided.add((event.round_id, event.attempt))
            case events.CoordinatorChanged() if event.term >= self.term:
                self.front, self.term = event.coordinator, event.term
            case _:
                pass

    def end(self, name: str, reason: str) -> None:
        """Note that a peer's process has ended.

        Args:
            name: Which.
            reason: Why; empty when it ended as it should: when it finished, or was asked to leave.
        """
        rider = self.riders[name]
        if not reason and not rider.finished:
            reason = f"the run ended without it{f' ({rider.trouble})' if rider.trouble else ''}"
        self.riders[name] = replace(rider, ended=reason, phase="finished" if not reason else "gone")

    @property
    def rounds_committed(self) -> int:
        """The last committed round."""
        return max(self.losses, default=0)

    @property
    def tokens_per_s(self) -> float:
        """Speed of all peers that run, added up."""
        return sum(rider.tokens_per_s for rider in self.riders.values() if rider.ended is None)

    @property
    def front_name(self) -> str:
        """Who is at the front, as people know it here."""
        riders = [rider for rider in self.riders.values() if rider.peer_id == self.front and self.front]
        return riders[0].called if riders else named(self.front)


def _started(rider: Rider, event: events.PeerStarted) -> Rider:
    up = replace(rider, phase="up", trouble="")
    return replace(up, peer_id=event.peer_id, parameters=event.parameters, round_id=event.round_id)


def _stepped(rider: Rider, event: events.StepDone) -> Rider:
    speed = event.tokens / event.seconds if event.seconds > 0 else 0.0
    smooth = (
        speed if not rider.tokens_per_s else rider.tokens_per_s + _SMOOTHING * (speed - rider.tokens_per_s)
    )
    rider = replace(rider, loss=event.loss, tokens_per_s=smooth)
    if event.ahead:
        return rider
    return replace(rider, round_id=event.round_id, inner_step=event.inner_step)


def _changed(rider: Rider, event: events.PhaseChanged) -> Rider:
    step = rider.inner_step if event.round_id == rider.round_id else 0
    return replace(rider, round_id=event.round_id, phase=event.phase, inner_step=step)


def _reduced(rider: Rider, event: events.ReduceEnded) -> Rider:
    return replace(
        rider, bytes_in=rider.bytes_in + event.bytes_in, bytes_out=rider.bytes_out + event.bytes_out
    )


def _stopped(rider: Rider, event: events.PeerStopped) -> Rider:
    return replace(rider, finished=event.cause == "finished")


def _restarting(rider: Rider, event: events.PeerRestarting) -> Rider:
    return replace(rider, phase="restarting", tokens_per_s=0.0, trouble=event.cause)


def _credited(rider: Rider, event: events.CreditsCounted) -> Rider:
    return replace(rider, balance=event.balance)


_ADVANCES: dict[type[Event], Callable[[Rider, Any], Rider]] = {
    events.PeerStarted: _started,
    events.StepDone: _stepped,
    events.PhaseChanged: _changed,
    events.ReduceEnded: _reduced,
    events.PeerStopped: _stopped,
    events.PeerRestarting: _restarting,
    events.CreditsCounted: _credited,
}
