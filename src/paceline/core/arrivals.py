"""Who has finished training in a round and when the rest will: whom to wait for, when to stop for others.

Every peer keeps this, whoever coordinates: the pace must survive a coordinator, and a slow peer has to know
when the others will have done their steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from dataclasses import dataclass, field
from math import isinf
from typing import NamedTuple

from paceline.core.pace import Trained, closing_s, left_s, straggler_deadline
from paceline.core.records import Phase
from paceline.core.standing import Sighting, Standing
from paceline.core.voice import Progress

NOTICE_SHARE, NOTICE_S = 0.05, 2.0
"""So long before the others are done a peer stops, as a share of their time and at most in seconds: they
have to hear of it, and the end of their training is foreseen from heartbeats."""
STEPS_OF_PATIENCE = 3
"""Whoever takes no step for so many times as long as it took before hangs, and is not waited for."""


class _Move(NamedTuple):
    done: int  # steps
    since: float
    longest_s: float  # between two heartbeats that told of different numbers of steps; infinite before that


@dataclass
class Arrivals:
    """When peers finished training in the present round, as this peer saw it.

    A peer that stopped early because others are faster does not make anybody else stop: whoever waits is
    heard, but counts as finished only when it would have done all of its steps.

    Attributes:
        started_at: When the round began, in monotonic seconds.
        lags: Whether this peer will not be there in time with all of its steps, as of its last one.
    """

    started_at: float = 0.0
    lags: bool = False
    _after_s: dict[str, float] = field(default_factory=dict)
    _moves: dict[str, _Move] = field(default_factory=dict)

    def begin_round(self, now: float) -> None:
        """Forget the last round.

        Args:
            now: Monotonic seconds.
        """
        self.started_at, self.lags, self._after_s, self._moves = now, False, {}, {}

    def watch(self, standing: Standing, now: float) -> None:
        """Note who has moved on, and who trains no more: when it has finished or would have.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.
        """
        for peer, record in standing.in_sync(now).items():
            self._moves[peer] = _moved(self._moves.get(peer), record.inner_step, now)
            if record.phase is not Phase.TRAIN and peer not in self._after_s:
                self._after_s[peer] = _would_finish_s(now - self.started_at, record, _asked(standing))

    def are_half(self, standing: Standing, now: float) -> bool:
        """Decide whether those who still train are being waited for.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.

        Returns:
            Whether half of the peers that set the deadline have finished training.
        """
        expected = _waited_for(standing, now)
        return 2 * len(self._finished(expected, now)) >= len(expected)

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
        expected -= {peer for peer in expected if self._hangs(peer, standing.run.pace.lease_s, now)}
        waiting = {peer for peer in expected if peer in self._after_s and peer in ready}
        if waiting == expected:
            return False
        deadline = straggler_deadline(self._finished(waiting, now), len(expected))
        if deadline is None:
            return True
        if now >= self.started_at + deadline:
            return False
        coming = [self._finishes_s(standing.peers[peer], standing, _claimed_s) for peer in expected - waiting]
        return any(at is None or at <= deadline for at in coming)

    def is_over(self, progress: Progress, standing: Standing, now: float) -> bool:
        """Decide whether training is over for this peer: it should be ready with the steps that it has.

        One that comes too late for all of its steps stops while the coordinator can still hear what it has
        done: what it trains after the plan would be in the average and not in its credit. It stops only when
        all who set the pace are heard: it can't take that back.

        Args:
            progress: How far this peer has trained.
            standing: What it knows.
            now: Monotonic seconds.

        Returns:
            True when the others will have gone on before its last step, and before its next one too.
        """
        self.lags = False
        elapsed_s, asked = now - self.started_at, _asked(standing)
        others = _waited_for(standing, now) - {standing.me}
        mine_s = _claimed_s(elapsed_s, progress, asked)
        if mine_s is None or not standing.electors or standing.electors - others - {standing.me}:
            return False
        finish = [self._finishes_s(standing.peers[peer], standing, _likely_s) for peer in sorted(others)]
        known = [at for at in finish if at is not None]
        if not known or len(known) < len(finish):
            return False  # somebody has not told of a step yet: nobody knows
        if standing.me in standing.electors:
            known.append(mine_s)
        closes_s = closing_s(known)
        self.lags = mine_s > closes_s
        next_s = elapsed_s + (mine_s - elapsed_s) / max(1, asked - progress.inner_step)
        return self.lags and next_s > closes_s - min(NOTICE_SHARE * closes_s, NOTICE_S)

    def _hangs(self, peer: str, lease_s: float, now: float) -> bool:
        # Its heart beats, but it takes no step: those who stopped for it would wait for nothing.
        move = self._moves.get(peer)
        if move is None or peer in self._after_s:
            return False
        return now - move.since > max(lease_s, STEPS_OF_PATIENCE * move.longest_s)

    def _finished(self, peers: Collection[str], now: float) -> list[float]:
        finishes = (self._after_s[peer] for peer in peers if peer in self._after_s)
        return [at for at in finishes if self.started_at + at <= now]

    def _finishes_s(self, seen: Sighting, standing: Standing, foresee: _Foresight) -> float | None:
        record = seen.record
        if record.peer_id in self._after_s:
            return self._after_s[record.peer_id]
        if record.round_id < standing.round_id:
            return None  # it has not begun yet
        return foresee(seen.seen_at - self.started_at, record, _asked(standing))


def _asked(standing: Standing) -> int:
    return standing.run.timetable.steps_of(standing.round_id)


def _would_finish_s(elapsed_s: float, stopped: Trained, asked: int) -> float:
    # From what it did in that time; or, where it came with steps done ahead, from how fast it says it is.
    done = max(1, min(stopped.inner_step, asked))
    return max(elapsed_s * asked / done, _claimed_s(elapsed_s, stopped, asked) or 0.0)


def _moved(last: _Move | None, done: int, now: float) -> _Move:
    if last is None:
        return _Move(done, now, float("inf"))
    if last.done == done:
        return last
    took_s = now - last.since
    return _Move(done, now, took_s if isinf(last.longest_s) else max(last.longest_s, took_s))


_Foresight = Callable[[float, Trained, int], float | None]


def _claimed_s(elapsed_s: float, trained: Trained, asked: int) -> float | None:
    # By the speed that it tells: right for oneself, and for whom one waits only until the deadline.
    left = left_s(trained, asked - min(trained.inner_step, asked))
    return None if left is None else elapsed_s + left


def _likely_s(elapsed_s: float, trained: Trained, asked: int) -> float | None:
    # As it tells, but not more than twice as fast as it has been so far: others stop for whom they believe.
    claimed_s, done = _claimed_s(elapsed_s, trained, asked), min(trained.inner_step, asked)
    return None if claimed_s is None else max(claimed_s, elapsed_s + elapsed_s / done * (asked - done) / 2)


def _waited_for(standing: Standing, now: float) -> set[str]:
    # Joiners take part with whatever they have, but nobody waits for them.
    expected = set(standing.in_sync(now)) | {
        peer for peer, r in standing.live(now).items() if r.round_id == standing.round_id - 1
    }
    # Nor for one that has promised a later term: it can't follow until this one ends.
    expected = {peer for peer in expected if standing.peers[peer].record.term <= standing.term}
    return expected & standing.electors or expected
