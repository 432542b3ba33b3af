"""Round machines with one deliberate mistake each: the simulation has to find every one of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from paceline.core.actions import Action, Promise
from paceline.core.config import RunConfig
from paceline.core.records import CommitRecord, GlobalState, PeerRecord, Phase
from paceline.core.rounds import Remembered, RoundMachine, Staged
from paceline.core.standing import Standing
from paceline.core.voice import Progress


class AppliesBeforeCommit(RoundMachine):
    """Believes whoever says that a round is committed, before a quorum of receipts backs it."""

    def _is_final(self, commit: CommitRecord) -> bool:
        return commit.state.prev_digest == self.standing.head.digest()


class CountsTwice(Standing):
    """Counts the receipt of whoever comes first twice."""

    def is_quorum(self, voters: Collection[str], departed: Collection[str]) -> bool:
        electors = set(self.head.participating_nodes) - set(departed)
        counted = len(set(voters) & electors) + 1
        return super().is_quorum(voters, departed) or (counted > 2 and 2 * counted > len(electors))


class CountsAReceiptTwice(RoundMachine):
    """Takes one vote too few for a quorum."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.standing.__class__ = CountsTwice


class NeverDoubts(Standing):
    """Takes whoever was ever heard for alive."""

    def live(self, now: float) -> dict[str, PeerRecord]:
        seen = {peer: sighting.record for peer, sighting in self.peers.items()}
        return {peer: record for peer, record in seen.items() if record.phase is not Phase.LEAVE}


class ForgetsTheLease(RoundMachine):
    """Waits for a silent coordinator for ever."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.standing.__class__ = NeverDoubts


class VotesWithoutDisk(RoundMachine):
    """Votes for a result that it is asked to fetch, before it has it."""

    def _follow_plan(self, now: float) -> list[Action]:
        plan = self.standing.orders.get(self.standing.coordinator)
        if plan is not None and plan.adopts is not None and self._is_for_me(plan, now):
            adopts = plan.adopts
            self._staged = Staged(adopts.plan_digest, adopts.weights_digest, adopts.momentum_digest)
        return super()._follow_plan(now)


class ReusesABallot(RoundMachine):
    """Leads again, after a restart, in a term in which it may have led before."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._leadership._promised_before_start = 0


class CountsStepsTwice(RoundMachine):
    """Takes the steps of the round that ended for steps of the next one, too."""

    def applied(self, head: GlobalState, now: float, ahead: Progress | None = None) -> None:
        if ahead is not None and ahead.inner_step:
            last = self.progress
            ahead = replace(ahead, samples=ahead.samples + last.samples)
        super().applied(head, now, ahead)


class ForgetsItsVote(RoundMachine):
    """Remembers after a restart which term it was in, but not how it voted."""

    def __init__(
        self,
        run: RunConfig,
        me: str,
        head: GlobalState,
        now: float,
        remembered: Remembered | None = None,
    ) -> None:
        told = remembered or Remembered()
        super().__init__(run, me, head, now, replace(told, promised=Promise(term=told.promised.term)))


class IgnoresVotes(RoundMachine):
    """Coordinates as if nobody had voted under the coordinator before it."""

    def _lead(self, now: float) -> list[Action]:
        self._coordination._may_choose = True
        place = (self.standing.round_id, self.standing.term)
        if self._coordination._place != place:
            self._coordination._place, self._coordination.plan = place, None
            self._coordination._next_attempt, self._coordination.committed = 0, False
        return super()._lead(now)


class PromisesTooLate(RoundMachine):
    """Says what it promises before it is on disk."""

    def advance(self, now: float) -> list[Action]:
        actions = super().advance(now)
        return sorted(actions, key=lambda action: isinstance(action, Promise))
