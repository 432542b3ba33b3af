"""The coordinator's duty: name a roster, collect receipts, commit or try again.

It holds no state that the swarm would miss. A coordinator of a later term asks a quorum for its votes, and
finishes the latest attempt that anybody voted for instead of starting another: so at most one result of a
round can ever be committed (Paxos, with the averaged weights as the value).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from paceline.core.actions import Action, Publish, Tell
from paceline.core.arrivals import Arrivals
from paceline.core.config import PaceConfig
from paceline.core.decided import perhaps_decided
from paceline.core.events import AttemptVoided, RoundPlanned
from paceline.core.members import choose_members, sensible
from paceline.core.pace import MOST_PATIENT_ATTEMPT, reduce_limit_s, straggler_deadline
from paceline.core.records import (
    MAX_MEMBERS,
    CommitRecord,
    GlobalState,
    PeerRecord,
    Phase,
    RoundPlan,
    RoundReceipt,
    Vote,
)
from paceline.core.standing import Standing

_RETRY_S, _MAX_RETRY_S = 0.5, 5.0


@dataclass
class Coordination:
    """One peer's coordinating, for one round and term at a time.

    Attributes:
        plan: The attempt whose receipts are awaited.
        planned_at: When it was published, in monotonic seconds.
        excluded: Peers that failed an attempt of this round.
        committed: Whether the commit has been published.
        arrivals: Who has finished training.
    """

    plan: RoundPlan | None = None
    planned_at: float = 0.0
    excluded: set[str] = field(default_factory=set)
    committed: bool = False
    arrivals: Arrivals = field(default_factory=Arrivals)
    _place: tuple[int, int] = (0, 0)
    _next_attempt: int = 0
    _may_choose: bool = False
    _quorum_at: float | None = None
    _voted_after_s: dict[str, float] = field(default_factory=dict)
    _not_before: float = 0.0

    def begin_round(self, now: float) -> None:
        """Forget the last round.

        Args:
            now: Monotonic seconds.
        """
        self.plan, self.committed, self.excluded = None, False, set()
        self._not_before = now
        self.arrivals.begin_round(now)

    def act(self, standing: Standing, now: float) -> list[Action]:
        """Do what an established coordinator does now.

        Args:
            standing: What this peer knows; a quorum follows it in `standing.term`.
            now: Monotonic seconds.

        Returns:
            Records to publish and facts to tell.
        """
        place = (standing.round_id, standing.term)
        if self._place != place:
            self._place, self.plan, self._may_choose = place, None, False
            self._next_attempt = _first_attempt(standing)
            self.committed = False
        if self.committed:
            return []
        if self.plan is not None:
            return self._judge(self.plan, standing, now)
        return self._plan(standing, now)

    def _plan(self, standing: Standing, now: float) -> list[Action]:
        followers = standing.followers(standing.term, standing.me)
        if not self._may_choose:
            votes = {
                p: r.vote for p, r in followers.items() if r.vote and r.vote.round_id == standing.round_id
            }
            # Any quorum's promises will do: if one has no vote among it, nothing can have been committed.
            if not standing.is_quorum(set(followers) - set(votes), standing.departed(now)):
                results = perhaps_decided(votes, set(followers), standing, standing.departed(now))
                if len(results) > 1:
                    return []  # wait for those whose votes tell
                if results:
                    return self._adopt(results[0], standing, now)
        self._may_choose = True
        ready = {p: r for p, r in standing.in_sync(now).items() if p in followers and p not in self.excluded}
        if now < self._not_before or self._should_wait(ready, standing, now):
            return []
        begun = {p: r for p, r in ready.items() if r.samples or r.phase is not Phase.TRAIN}
        if standing.is_quorum(begun, ()):
            ready = begun  # whoever is in its first step would have no weight, and come when that step ends
        departed = self._departed(ready, standing, now)
        members = choose_members(
            ready,
            standing.electors,
            run_id=standing.run.run_id,
            me=standing.me,
            room=MAX_MEMBERS - len(departed),  # both lists have to fit one record
            rotate=self._next_attempt == _first_attempt(standing) and not self.excluded,
        )
        samples = [ready[peer].samples for peer in members]
        if not standing.is_quorum(members, departed) or sum(samples) == 0:
            # Whoever failed before may be the one who is missing: give everybody another chance, slowly.
            self.excluded = set()
            self._not_before = now + standing.run.pace.stall_s
            return []
        losses = sum(ready[peer].loss * ready[peer].samples for peer in members)
        plan = self._draft(
            standing,
            roster=tuple(members),
            samples=sensible(samples),
            avg_loss=losses / sum(samples),
            departed=departed,
        )
        return self._announce(plan, now)

    def _departed(self, voters: Collection[str], standing: Standing, now: float) -> tuple[str, ...]:
        # Nobody is declared gone unless the round can't be committed otherwise.
        return () if standing.is_quorum(voters, ()) else standing.departed(now)

    def _adopt(self, vote: Vote, standing: Standing, now: float) -> list[Action]:
        origin = standing.plans.get(vote.plan_digest)
        if origin is None:
            return []  # whoever voted for it hands it on: see RoundMachine
        # Whoever trained for this result may be gone since, and must not hold up its commit for ever.
        departed = self._departed(standing.followers(standing.term, standing.me), standing, now)
        plan = self._draft(
            standing,
            roster=origin.roster,
            samples=origin.samples,
            avg_loss=origin.avg_loss,
            departed=departed[: MAX_MEMBERS - len(origin.roster)],
            adopts=vote,
            origin=origin.origin or origin.ballot,
        )
        return self._announce(plan, now)

    def _draft(self, standing: Standing, **content: object) -> RoundPlan:
        plan = RoundPlan.model_validate(
            {
                "run_id": standing.run.run_id,
                "peer_id": standing.me,
                "seq": 0,
                "expires_at": 0.0,
                "round_id": standing.round_id,
                "term": standing.term,
                "attempt": self._next_attempt,
                "prev_digest": standing.head.digest(),
                **content,
            }
        )
        self._next_attempt += 1
        return plan

    def _announce(self, plan: RoundPlan, now: float) -> list[Action]:
        self.plan, self.planned_at, self._quorum_at, self._voted_after_s = plan, now, None, {}
        told = RoundPlanned(
            round_id=plan.round_id, term=plan.term, attempt=plan.attempt, members=len(plan.roster)
        )
        return [Publish(plan), Tell(told)]

    def _should_wait(self, ready: dict[str, PeerRecord], standing: Standing, now: float) -> bool:
        electors = standing.electors - self.excluded
        never_seen = [peer for peer in electors if peer not in standing.peers]
        if never_seen and now < standing.started_at + standing.run.pace.gather_s:
            return True
        return self.arrivals.are_awaited(ready, self.excluded, standing, now)

    def _judge(self, plan: RoundPlan, standing: Standing, now: float) -> list[Action]:
        receipts = standing.receipts_of(plan.ballot)
        winners = largest_agreement(receipts)
        live = standing.live(now)
        asked = plan.roster if plan.adopts is None else standing.followers(standing.term, standing.me)
        silent = {peer for peer in asked if peer not in receipts}
        anew = set() if plan.adopts else _started_anew(plan, live)
        waiting = {peer for peer in silent - anew if peer in live and peer not in self.excluded}
        for peer in receipts:
            self._voted_after_s.setdefault(peer, now - self.planned_at)
        pace = standing.run.pace
        if winners and standing.is_quorum(winners, plan.departed):
            self._quorum_at = now if self._quorum_at is None else self._quorum_at
            if not waiting or now >= self._grace_ends_at(len(asked), self._quorum_at, pace):
                return self._commit(plan, receipts[winners[0]], standing)
            return []
        limit_s = pace.start_s + reduce_limit_s(pace, plan.attempt)
        if now >= self.planned_at + limit_s:
            return self._void("not enough receipts in time", receipts, silent, now)
        if plan.adopts is None and not waiting:
            return self._void("too few members got the whole average", receipts, silent, now)
        return []

    def _grace_ends_at(self, num_asked: int, quorum_at: float, pace: PaceConfig) -> float:
        # Whoever has the result and votes too late loses nothing by a commit that did not wait for it.
        deadline = straggler_deadline(list(self._voted_after_s.values()), num_asked)
        longest = quorum_at + pace.grace_s
        return longest if deadline is None else min(longest, self.planned_at + deadline)

    def _commit(self, plan: RoundPlan, receipt: RoundReceipt, standing: Standing) -> list[Action]:
        self.committed = True
        state = committed_state(plan, receipt)
        record = CommitRecord(
            run_id=standing.run.run_id,
            peer_id=standing.me,
            seq=0,
            expires_at=0.0,
            state=state,
            ballot_term=plan.term,
            ballot_attempt=plan.attempt,
            departed=plan.departed,
        )
        return [Publish(record)]

    def _void(
        self, cause: str, receipts: dict[str, RoundReceipt], silent: set[str], now: float
    ) -> list[Action]:
        plan, self.plan = self.plan, None
        assert plan is not None
        blamed = Counter(r.blamed for r in receipts.values() if r.blamed and not r.complete)
        worst = {peer for peer, count in blamed.items() if count == max(blamed.values())}
        self.excluded |= silent | worst
        self._not_before = now + min(plan.attempt * _RETRY_S, _MAX_RETRY_S)
        return [Tell(AttemptVoided(round_id=plan.round_id, attempt=plan.attempt, cause=cause))]


def _started_anew(plan: RoundPlan, live: Mapping[str, PeerRecord]) -> set[str]:
    # Members that no longer have what the plan counts on, as after a restart: they can't follow it.
    weights = dict(zip(plan.roster, plan.samples, strict=True))
    return {peer for peer, weight in weights.items() if peer in live and live[peer].samples < weight}


def _first_attempt(standing: Standing) -> int:
    # What the last round needed in patience, this one will need as well.
    return min(standing.head.attempt, MOST_PATIENT_ATTEMPT)


def largest_agreement(receipts: dict[str, RoundReceipt]) -> list[str]:
    """Find the largest group of members that voted for the same digests.

    Args:
        receipts: Receipts of one attempt by author.

    Returns:
        Its members, sorted; empty when nobody voted.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for peer, receipt in sorted(receipts.items()):
        if receipt.complete:
            what = (receipt.plan_digest, receipt.weights_digest, receipt.momentum_digest)
            groups.setdefault(what, []).append(peer)
    return max(groups.values(), key=len, default=[])


def committed_state(plan: RoundPlan, receipt: RoundReceipt) -> GlobalState:
    """Write the commit that a plan and the agreed digests lead to: the same, whoever writes it.

    Args:
        plan: The plan whose receipts make the quorum.
        receipt: One of those receipts.

    Returns:
        The commit. Of an adopting plan it takes the origin's ballot, so both plans lead to one commit.
    """
    origin = plan.origin or plan.ballot
    return GlobalState(
        round_id=plan.round_id,
        run_id=plan.run_id,
        participating_nodes=list(plan.roster),
        samples=list(plan.samples),
        avg_loss=plan.avg_loss,
        term=origin.term,
        attempt=origin.attempt,
        plan_digest=plan.digest(),
        prev_digest=plan.prev_digest,
        weights_digest=receipt.weights_digest,
        momentum_digest=receipt.momentum_digest,
    )
