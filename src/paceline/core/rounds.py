"""The round protocol of one peer as a state machine without I/O, the way h11 is HTTP without sockets.

Tell it what happened (`notice`, `trained`, `reduced`, `applied`, ...), then ask `advance` what to do. It
reads no clock and touches no network: the live worker and a simulator drive this very code.

Guarantees (docs/adr/0001 argues for them):
    A round never has two different commits.
    A vote is promised durably before it is published.
    Whoever votes holds the result on its disk.
    A commit is applied only when a quorum of equal receipts backs it.
"""

from __future__ import annotations

from collections.abc import Iterable

from paceline.core import chain
from paceline.core.actions import Action, Apply, CancelReduce, Finish, Reduce, Tell
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.coordination import Coordination
from paceline.core.events import CoordinatorChanged, DriftDetected
from paceline.core.lag import Lag
from paceline.core.leadership import Leadership
from paceline.core.members import most_sensible
from paceline.core.records import (
    CommitRecord,
    GlobalState,
    Phase,
    Record,
    RoundPlan,
    Vote,
)
from paceline.core.standing import Standing
from paceline.core.voice import Progress, Voice
from paceline.core.voting import Remembered, Staged, Voting, staged_by

__all__ = ["Remembered", "RoundMachine", "Staged"]

_REPAIR_PATIENCE_S = 300.0


class RoundMachine:
    """One peer's part in the rounds of a run.

    Attributes:
        standing: What this peer knows.
        phase: Where it stands.
        progress: How far it has trained.
        voice: What it says of itself.
        is_coordinator: Whether it leads with a quorum behind it, as of the last `advance`.
    """

    def __init__(
        self,
        run: RunConfig,
        me: str,
        head: GlobalState,
        now: float,
        remembered: Remembered | None = None,
    ) -> None:
        """Stand on a commit.

        Args:
            run: The run's parameters.
            me: This peer's id.
            head: The last commit that this peer has applied.
            now: Monotonic seconds.
            remembered: What its disk says of its earlier lives.
        """
        remembered = remembered or Remembered()
        self.standing = Standing(run=run, me=me, head=head, started_at=now, term=remembered.promised.term)
        self.phase = Phase.TRAIN
        self.progress = Progress()
        self._voting = Voting(self.standing, remembered)
        self.is_coordinator = False
        self.voice = Voice(now)
        self._leadership = Leadership(self.standing, now)
        self._coordination = Coordination()
        self._coordination.begin_round(now)
        # Of a round that is committed since, it would only make this peer wait for a commit that it has.
        self._staged = remembered.staged if self._voting.vote else None
        self._following: RoundPlan | None = None
        self._cancelled = False
        self._lag = Lag()
        self._advanced_at = now
        self._finished_at: float | None = None
        self._finish_if_last(now)
        self._pending: list[Action] = []

    # What happened

    def notice(self, record: Record, sealed: bytes, now: float) -> None:
        """Take in a record from the board, including this peer's own.

        Args:
            record: A record whose signature and schema hold.
            sealed: Its sealed bytes.
            now: Monotonic seconds.
        """
        self.standing.notice(record, sealed, now)

    def trained(self, progress: Progress, now: float) -> None:
        """Note an inner step: the last one that is asked for, or that is of use, ends this peer's training.

        Steps that a peer takes after that, while the round is exchanged, are not told before `applied`.

        Args:
            progress: The round's progress including that step.
            now: Monotonic seconds.
        """
        self.progress = progress
        if self.phase is not Phase.TRAIN:
            return
        has_all = progress.inner_step >= self.standing.run.timetable.steps_of(self.standing.round_id)
        if has_all or self._coordination.arrivals.is_over(progress, self.standing, now):
            self.phase = Phase.WAIT

    def reduced(self, plan: RoundPlan, staged: Staged | None, blamed: str = "") -> None:
        """Note the end of an all-reduce; with a complete result, already durable, this peer votes for it.

        Args:
            plan: The plan that was followed.
            staged: The complete result, or None.
            blamed: Who is held responsible for a failure.
        """
        current = self._following
        if current is None or current.ballot != plan.ballot or plan.round_id != self.standing.round_id:
            return
        self._staged = staged
        if staged:
            self.phase = Phase.ATTEST
        else:
            # Ready for the next attempt, with what it has: a straggler in the middle of a long step would
            # miss the start of that one too, and every one after it.
            self.phase = Phase.WAIT if self.progress.samples else Phase.TRAIN
        standing = self.standing
        if (plan.term, plan.peer_id) == (standing.term, standing.coordinator):  # else a promise forbids it
            self._pending += self._voting.attest(plan, staged, self.progress, blamed)

    def applied(self, head: GlobalState, now: float, ahead: Progress | None = None) -> None:
        """Note that a commit is applied, or that a repair ended on one: the next round begins.

        Args:
            head: The commit that this peer now stands on.
            now: Monotonic seconds.
            ahead: What it has trained for the next round already.
        """
        self.standing.move_to(head, now)
        self._coordination.begin_round(now)
        self._leadership.begin_round(now)
        self._voting.begin_round()
        self.progress, self._staged, self._following = Progress(), None, None
        self._lag.caught_up()
        self.phase = Phase.TRAIN
        if ahead is not None and ahead.inner_step:
            self.trained(ahead, now)
        self._finish_if_last(now)

    def repair_failed(self, now: float) -> None:
        """Note that state could not be fetched; it is tried again a little later.

        Args:
            now: Monotonic seconds.
        """
        self.phase = Phase.TRAIN
        self.trained(self.progress, now)
        self._lag.failed(now)

    def lost_result(self, now: float) -> None:
        """Note that the staged result can't be read back from disk: it has to come from others.

        Args:
            now: Monotonic seconds.
        """
        self._staged = None
        self.repair_failed(now)

    def leave(self) -> None:
        """Take leave: others stop counting on this peer at once."""
        self.phase = Phase.LEAVE

    # What to do

    @property
    def is_unhurried(self) -> bool:
        """Whether nobody hangs on how soon this peer hears of others: it may read the board less often."""
        return self.phase is Phase.TRAIN and not (self.is_coordinator or self.voice.is_late)

    def advance(self, now: float) -> list[Action]:
        """Decide what to do now.

        Args:
            now: Monotonic seconds.

        Returns:
            Actions, to be carried out in this order.
        """
        self._notice_standstill(now)
        actions = self.take_pending()
        if self.phase is Phase.LEAVE:
            return [*actions, *self._speak(now)]
        if self.phase not in (Phase.APPLY, Phase.REPAIR):
            actions += self._settle(now)
        if self.phase not in (Phase.APPLY, Phase.REPAIR) and not self._voting.knows_of_more:
            actions += self._choose_coordinator(now)
            actions += self._follow_plan(now)
            self._notice_arrivals(now)
            actions += self._lead(now)
        waits = self.phase is Phase.WAIT and self._finished_at is None
        actions += self.voice.complain(self.standing, waits=waits, now=now)
        return [*actions, *self._speak(now), *self._finish(now)]

    def _notice_arrivals(self, now: float) -> None:
        arrivals = self._coordination.arrivals
        arrivals.watch(self.standing, now)
        late = arrivals.lags or arrivals.are_half(self.standing, now)
        self.voice.is_late = late and self.phase is Phase.TRAIN

    def _notice_standstill(self, now: float) -> None:
        # A stopped process must not wake up and take all others for dead.
        gap, self._advanced_at = now - self._advanced_at, now
        if gap > self.standing.run.pace.lease_s:
            self.standing.stood_still(gap, now)
            self._leadership.stood_still(gap)

    def _settle(self, now: float) -> list[Action]:
        # Apply a commit that is backed, or repair when the swarm is ahead.
        if self.phase is Phase.REDUCE:
            return []
        for commit, sealed in self.standing.commits.values():
            if self._is_final(commit):
                if self._staged == staged_by(commit.state):
                    self.phase = Phase.APPLY
                    return [Apply(commit, Link(sealed, self.standing.sealed_backing(commit)))]
                return [*self._tell_drift(commit.state), *self._repair(now)]
        behind = self._lag.is_behind(
            self.standing,
            has_result=self._staged is not None,
            now=now,
            knows_of_more=self._voting.knows_of_more,
        )
        return self._repair(now) if behind else []

    def _tell_drift(self, committed: GlobalState) -> list[Action]:
        staged = self._staged
        if staged is None or staged.plan_digest != committed.plan_digest:
            return []  # not drift: this peer has no result of that attempt
        self._staged = None
        ours, theirs = staged.weights_digest, committed.weights_digest
        return [Tell(DriftDetected(round_id=committed.round_id, ours=ours, theirs=theirs))]

    def _is_final(self, commit: CommitRecord) -> bool:
        head, state = self.standing.head, commit.state
        follows = state.round_id == self.standing.round_id and state.prev_digest == head.digest()
        if not follows or state.averaged_plan_digest() != state.plan_digest:
            return False
        receipts = list(self.standing.receipts_of(commit.ballot).values())
        return chain.is_backed(commit, receipts, head, self.standing.run)

    def _repair(self, now: float) -> list[Action]:
        order = self._lag.repair(self.standing, now, knows_of_more=self._voting.knows_of_more)
        if order is None:
            return []
        self.phase = Phase.REPAIR
        return [order]

    def _choose_coordinator(self, now: float) -> list[Action]:
        standing = self.standing
        if self._finished_at is not None or not self._leadership.choose(now, may_lead=True):
            return []
        changed = CoordinatorChanged(
            term=standing.term, coordinator=standing.coordinator, is_me=standing.coordinator == standing.me
        )
        return [self._voting.promise(), Tell(changed), *self._voting.hand_on_plan()]

    def _follow_plan(self, now: float) -> list[Action]:
        standing = self.standing
        plan = standing.orders.get(standing.coordinator)
        if self._finished_at is not None or plan is None or not self._is_for_me(plan, now):
            return []
        if self.phase is Phase.REDUCE:
            superseded, self._cancelled = None if self._cancelled else self._following, True
            return [CancelReduce(superseded.digest())] if superseded else []
        self._following, self._cancelled = plan, False
        if plan.adopts is not None and self._staged == staged_by(plan.adopts):
            self.phase = Phase.ATTEST
            return self._voting.attest(plan, self._staged, self.progress, "")
        self.phase, self._staged = Phase.REDUCE, None
        return [Reduce(plan, self._holders(plan.adopts))]

    def _holders(self, result: Vote | None) -> tuple[str, ...]:
        if result is None:
            return ()
        wanted = staged_by(result)
        votes = {peer: seen.record.vote for peer, seen in self.standing.peers.items()}
        return tuple(sorted(peer for peer, vote in votes.items() if vote and staged_by(vote) == wanted))

    def _is_for_me(self, plan: RoundPlan, now: float) -> bool:
        standing = self.standing
        mine = (self._following, self._voting.vote)
        return (
            (plan.round_id, plan.term) == (standing.round_id, standing.term)
            and all(plan.ballot > known.ballot for known in mine if known)
            and plan.prev_digest == standing.head.digest()
            and max(plan.samples) <= most_sensible(plan.samples)
            and (plan.adopts.plan_digest == plan.digest() if plan.adopts else self._has_trained_for(plan))
            and self._are_gone(plan.departed, now)
        )

    def _are_gone(self, peers: Iterable[str], now: float) -> bool:
        nearly = 0.9 * self.standing.run.quorum.departure_s
        return all(self.standing.unseen_s(peer, now) >= nearly for peer in peers)

    def _has_trained_for(self, plan: RoundPlan) -> bool:
        # After a restart a peer has not, and its part of the average, and its credit, would be for nothing.
        weights = dict(zip(plan.roster, plan.samples, strict=True))
        return self.progress.samples >= weights.get(self.standing.me, float("inf"))

    def _lead(self, now: float) -> list[Action]:
        standing = self.standing
        self.is_coordinator = standing.coordinator == standing.me and standing.is_established(
            standing.term, standing.me, now
        )
        if not self.is_coordinator or self._finished_at is not None:
            return []
        return self._coordination.act(standing, now)

    def _speak(self, now: float) -> list[Action]:
        return self.voice.speak(self.standing, self.phase, self.progress, self._voting.vote, now)

    def _finish(self, now: float) -> list[Action]:
        # Stay after the last round until the others have it too, so that nobody is left behind.
        if self._finished_at is None:
            return []
        others = self.standing.live(now).values()
        if all(record.round_id >= self.standing.round_id for record in others):
            return [Finish()]
        somebody_repairs = any(record.phase is Phase.REPAIR for record in others)
        patience = _REPAIR_PATIENCE_S if somebody_repairs else 2 * self.standing.run.pace.lease_s
        return [Finish()] if now >= self._finished_at + patience else []

    def _finish_if_last(self, now: float) -> None:
        if self.standing.head.round_id >= self.standing.run.rounds:
            self.phase, self._finished_at = Phase.WAIT, now

    def take_pending(self) -> list[Action]:
        """Hand over actions that came up while noting what happened.

        Returns:
            The actions, in order; they are forgotten here.
        """
        pending, self._pending = self._pending, []
        return pending
