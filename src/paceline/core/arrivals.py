"""Who has finished training in a round and when the rest will: whom to wait for, when to stop for others.

Every peer keeps this, whoever coordinates: the pace must survive a coordinator, and a slow peer has to know
when the others will have done their steps.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, field

from paceline.core.pace import closing_s, left_s, straggler_deadline
from paceline.core.records import Phase
from paceline.core.standing import Sighting, Standing
from paceline.core.voice import Progress

FORESIGHT = 0.95
"""So closely, as a share of it, the end of the others' training can be foreseen from their heartbeats."""


@dataclass
class Arrivals:
    """When peers finished training in the present round, as this peer saw it.

    Attributes:
        started_at: When the round began, in monotonic seconds.
        lags: Whether this peer will not be there in time with all of its steps, as of its last one.
    """

    started_at: float = 0.0
    lags: bool = False
    _after_s: dict[str, float] = field(default_factory=dict)

    def begin_round(self, now: float) -> None:
        """Forget the last round.

        Args:
            now: Monotonic seconds.
        """
        self.started_at, self.lags, self._after_s = now, False, {}

    def watch(self, standing: Standing, now: float) -> None:
        """Note who has finished training.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.
        """
        for peer, record in standing.in_sync(now).items():
            if record.phase is not Phase.TRAIN and peer not in self._after_s:
                self._after_s[peer] = now - self.started_at

    def are_half(self, standing: Standing, now: float) -> bool:
        """Decide whether those who still train are being waited for.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.

        Returns:
            Whether half of the peers that set the deadline have finished training.
        """
        expected = _waited_for(standing, now)
        return 2 * len(expected & self._after_s.keys()) >= len(expected)

    def are_awaited(
        self, ready: Container[str], excluded: Collection[str], standing: Standing, now: float
    ) -> bool:
        """Decide whether a plan should wait for peers that still train.

        Args:
            ready: Who can take part.
            excluded: Who failed an attempt of this round.
            standing: What this peer knows.
            now: Monotonic seconds.

        Returns:
            True while somebody is late who may still come before the deadline for stragglers.
        """
        expected = _waited_for(standing, now).difference(excluded)
        arrived = {peer: at for peer, at in self._after_s.items() if peer in expected and peer in ready}
        if len(arrived) == len(expected):
            return False
        deadline = straggler_deadline(list(arrived.values()), len(expected))
        if deadline is None:
            return True
        if now >= self.started_at + deadline:
            return False
        coming = [self._arrives_s(standing.peers[peer], standing) for peer in expected - arrived.keys()]
        return any(at is None or at <= deadline for at in coming)

    def is_over(self, progress: Progress, standing: Standing, now: float) -> bool:
        """Decide whether training is over for this peer: it should be ready with the steps that it has.

        One that comes too late for all of its steps stops while the coordinator can still hear what it has
        done: what it trains after the plan would be in the average and not in its credit.

        Args:
            progress: How far this peer has trained.
            standing: What it knows.
            now: Monotonic seconds.

        Returns:
            True when the others will have gone on before its last step, and before its next one too.
        """
        step_s = left_s(progress, 1)
        if step_s is None:
            return False
        left = standing.run.inner_steps - progress.inner_step
        mine_s = now - self.started_at + left * step_s
        others = _waited_for(standing, now) - {standing.me}
        arrivals = [self._arrives_s(standing.peers[peer], standing) for peer in sorted(others)]
        known = [at for at in arrivals if at is not None]
        if not known or len(known) < len(arrivals):
            return False  # somebody has not told of a step yet: nobody knows
        if standing.me in standing.electors or not standing.electors:
            known.append(mine_s)
        closes_s = closing_s(known)
        self.lags = mine_s > closes_s
        return self.lags and now - self.started_at + step_s > FORESIGHT * closes_s

    def _arrives_s(self, seen: Sighting, standing: Standing) -> float | None:
        record = seen.record
        if record.peer_id in self._after_s:
            return self._after_s[record.peer_id]
        if record.round_id < standing.round_id:
            return None  # it has not begun yet
        left = left_s(record, standing.run.inner_steps - record.inner_step)
        return None if left is None else seen.seen_at - self.started_at + left


def _waited_for(standing: Standing, now: float) -> set[str]:
    # Joiners take part with whatever they have, but nobody waits for them.
    expected = set(standing.in_sync(now)) | {
        peer for peer, r in standing.live(now).items() if r.round_id == standing.round_id - 1
    }
    # Nor for one that has promised a later term: it can't follow until this one ends.
    expected = {peer for peer in expected if standing.peers[peer].record.term <= standing.term}
    return expected & standing.electors or expected
