"""What a peer says of itself, and when: heartbeats on the board, and a word to its owner when it is alone."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core import chain
from paceline.core.actions import Action, Publish, Tell
from paceline.core.election import quorum_size
from paceline.core.events import PhaseChanged, QuorumMissing, RoundStalled
from paceline.core.pace import reduce_limit_s
from paceline.core.records import PeerRecord, Phase, Vote
from paceline.core.standing import Standing

HEARTBEAT_S = 2.0
LATE_HEARTBEAT_S = 0.5
"""The same for a peer that trains longer than others, or will: its latest steps decide about its part."""
_COMPLAIN_EVERY_S = 10.0
_WONDER_EVERY_S = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a peer has trained in its round.

    Attributes:
        inner_step: Steps done.
        samples: Sequences trained on.
        samples_per_s: Recent speed.
        loss: Mean loss so far, nats per token.
    """

    inner_step: int = 0
    samples: int = 0
    samples_per_s: float = 0.0
    loss: float = 0.0


class Voice:
    """Decides when a heartbeat is due.

    Attributes:
        boot_id: Random per start, in every heartbeat.
        metrics_address: `host:port` of the Prometheus endpoint, in every heartbeat.
        is_late: Whether this peer trains longer than others, or will.
    """

    def __init__(self, now: float) -> None:
        """Say nothing yet.

        Args:
            now: Monotonic seconds.
        """
        self.boot_id = ""
        self.metrics_address = ""
        self.is_late = False
        self._said: tuple[object, ...] = ()
        self._said_at = float("-inf")
        self._told_phase: Phase | None = None
        self._accompanied_at = self._waits_since = now
        self._wondered_at = float("-inf")

    def speak(
        self, standing: Standing, phase: Phase, progress: Progress, vote: Vote | None, now: float
    ) -> list[Action]:
        """Publish a heartbeat when something changed that others wait for, or when it is time.

        Args:
            standing: What this peer knows.
            phase: Where it stands.
            progress: How far it has trained.
            vote: Its vote in this round.
            now: Monotonic seconds.

        Returns:
            A heartbeat to publish, or nothing.
        """
        acts = standing.coordinator == standing.me and standing.hears_quorum(now)
        says = (standing.round_id, phase, standing.term, standing.coordinator, vote, acts)
        if says == self._said and now < self._said_at + (LATE_HEARTBEAT_S if self.is_late else HEARTBEAT_S):
            return []
        self._said, self._said_at = says, now
        told: list[Action] = []
        if phase is not self._told_phase:
            self._told_phase = phase
            told.append(Tell(PhaseChanged(round_id=standing.round_id, phase=phase)))
        record = PeerRecord(
            run_id=standing.run.run_id,
            peer_id=standing.me,
            seq=0,
            expires_at=0.0,
            round_id=standing.round_id,
            head_digest=standing.head.digest(),
            phase=phase,
            inner_step=progress.inner_step,
            samples=progress.samples,
            samples_per_s=progress.samples_per_s,
            loss=progress.loss,
            term=standing.term,
            coordinator=standing.coordinator,
            vote=vote,
            boot_id=self.boot_id,
            acts=acts,
            metrics_address=self.metrics_address,
        )
        return [*told, Publish(record)]

    def complain(self, standing: Standing, *, waits: bool, now: float) -> list[Action]:
        """Say that too few peers are here for a quorum: silence would look like a hang.

        Args:
            standing: What this peer knows.
            waits: Whether this peer waits for others.
            now: Monotonic seconds.

        Returns:
            A fact to tell now and then while that lasts.
        """
        if not waits:
            self._waits_since = self._accompanied_at = now
            return []
        here, departed = standing.in_sync(now), standing.departed(now)
        if standing.is_quorum(here, departed):
            self._accompanied_at = now
            return self._wonder(standing, now)
        if now < self._accompanied_at + _COMPLAIN_EVERY_S:
            return []
        self._accompanied_at = now
        needed = quorum_size(chain.electorate(standing.head, departed), standing.run.quorum.min_members)
        return [Tell(QuorumMissing(got=len(here), needed=needed))]

    def _wonder(self, standing: Standing, now: float) -> list[Action]:
        pace = standing.run.pace
        patience = pace.start_s + reduce_limit_s(pace, standing.head.attempt)
        if now < max(self._waits_since + patience, self._wondered_at + _WONDER_EVERY_S):
            return []
        self._wondered_at = now
        stalled = RoundStalled(
            round_id=standing.round_id,
            seconds=now - self._waits_since,
            term=standing.term,
            coordinator=standing.coordinator,
        )
        return [Tell(stalled)]
