"""One round, from what was said of it: its attempts, who voted for what, and how it ended.

All that is kept here is a set of statements: the order in which they came makes no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from paceline.core import chain
from paceline.core.coordination import largest_agreement
from paceline.core.records import Ballot, CommitRecord, PeerRecord, RoundPlan, RoundReceipt, WorkerMetrics
from paceline.watch.bounds import bounded
from paceline.watch.picture import RoundView, VoidView

_MOST_OF_AN_AUTHOR = 16
"""So many plans, and receipts, of one author in one round are kept: nobody can fill the memory."""
_FROM_HEARTBEAT, _FROM_RECEIPT, _FROM_METRICS = 0, 1, 2
_Statement = TypeVar("_Statement", RoundPlan, RoundReceipt, CommitRecord)


Led = Collection[tuple[int, str]]
"""Terms and coordinators that somebody else follows: whoever else publishes plans only says so."""


class Applied(NamedTuple):
    """A commit that a peer told to have applied.

    Attributes:
        digest: Of the commit.
        loss: Of the round, nats per token.
        members: How many were in the average.
    """

    digest: str
    loss: float
    members: int


@dataclass
class RoundFacts:
    """What was said of one round.

    Attributes:
        round_id: The round.
        plans: Plans by author and ballot.
        receipts: Receipts by author and ballot.
        commits: Commits by digest and author.
        begun: Who planned an attempt, as event files tell, by term and attempt.
        voids: Why an attempt was given up, as event files tell, by term and attempt.
        blamed: Whom members held responsible, as event files tell, by attempt.
        seen_at: When something that shows a commit was first seen, in seconds since 1970, by its digest.
        told: What peers told to have applied, by peer: all there is of a round when its log is missing.
    """

    round_id: int
    plans: dict[tuple[str, Ballot], RoundPlan] = field(default_factory=dict)
    receipts: dict[tuple[str, Ballot], RoundReceipt] = field(default_factory=dict)
    commits: dict[tuple[str, str], CommitRecord] = field(default_factory=dict)
    begun: dict[tuple[int, int], str] = field(default_factory=dict)
    voids: dict[tuple[int, int], str] = field(default_factory=dict)
    blamed: dict[int, set[str]] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)
    told: dict[str, Applied] = field(default_factory=dict)
    _losses: dict[str, tuple[int, int, int, float]] = field(default_factory=dict)
    _val_losses: dict[str, tuple[int, float]] = field(default_factory=dict)

    def take(self, record: PeerRecord | RoundPlan | RoundReceipt | CommitRecord | WorkerMetrics) -> None:
        """Note what a record says.

        Args:
            record: A record about this round.
        """
        match record:
            case RoundPlan():
                _keep(self.plans, (record.peer_id, record.ballot), record)
            case RoundReceipt():
                _keep(self.receipts, (record.peer_id, record.ballot), record)
                self._note_loss(record.peer_id, (_FROM_RECEIPT, *record.ballot, record.loss))
            case CommitRecord():
                _keep(self.commits, (record.peer_id, record.state.digest()), record)
            case PeerRecord():
                if record.samples:
                    told = (_FROM_HEARTBEAT, record.inner_step, record.seq, record.loss)
                    self._note_loss(record.peer_id, told)
            case WorkerMetrics():
                self._note_loss(record.peer_id, (_FROM_METRICS, record.seq, 0, record.loss))
                if record.val_loss is not None:
                    self.note_val_loss(record.peer_id, record.seq, record.val_loss)

    def see(self, digest: str, at: float) -> None:
        """Note that something shows a commit.

        Args:
            digest: Of the commit.
            at: When it was seen, in seconds since 1970; the earliest time counts.
        """
        self.seen_at[digest] = min(at, self.seen_at.get(digest, at))

    def note_step(self, peer_id: str, inner_step: int, loss: float) -> None:
        """Note how far a peer has trained.

        Args:
            peer_id: Who.
            inner_step: Steps done.
            loss: Mean loss over them, nats per token.
        """
        self._note_loss(peer_id, (_FROM_HEARTBEAT, inner_step, 0, loss))

    def note_val_loss(self, peer_id: str, seq: int, loss: float) -> None:
        """Note what a peer measured on the anchor that the round left.

        Args:
            peer_id: Who.
            seq: Orders what the same peer tells several times.
            loss: Nats per byte.
        """
        self._val_losses[peer_id] = max((seq, loss), self._val_losses.get(peer_id, (-1, 0.0)))

    def view(self, commit: CommitRecord | None, led: Led, begun: Collection[str] = ()) -> RoundView:
        """Sum up.

        Args:
            commit: Its commit, or None while it is in progress.
            led: Whose plans count.
            begun: Peers that train in a round in progress.

        Returns:
            The round for people.
        """
        if commit is None:
            return self._in_progress(led, begun)
        state, digest = commit.state, commit.state.digest()
        backers = chain.backers(commit, list(self.receipts.values()))
        return RoundView(
            round_id=self.round_id,
            committed_at=self.seen_at.get(digest),
            author=commit.peer_id,
            term=state.term,
            attempt=state.attempt,
            members=tuple(state.participating_nodes),
            samples=tuple(state.samples),
            receipts=len(backers),
            avg_loss=state.avg_loss,
            val_loss=self._val_loss(),
            losses=self._losses_of(state.participating_nodes),
            digest=digest,
            prev_digest=state.prev_digest,
            weights_digest=state.weights_digest,
            voids=self._voids(state.plan_digest, led),
        )

    def view_as_told(self) -> RoundView | None:
        """Sum up a round of which only event files tell.

        Returns:
            The round with what most peers have applied; None when nobody has.
        """
        tales = sorted(self.told.values())
        if not tales:
            return None
        most = max(tales, key=tales.count)
        return RoundView(
            round_id=self.round_id,
            committed_at=self.seen_at.get(most.digest),
            avg_loss=most.loss,
            val_loss=self._val_loss(),
            losses=self._losses_of(self._losses),
            digest=most.digest,
            voids=self._voids("", ()),
        )

    def _in_progress(self, led: Led, begun: Collection[str]) -> RoundView:
        plans = self._that_count(led)
        if not plans:
            return self._begun(begun)
        plan = max(plans, key=lambda plan: (plan.ballot, plan.digest()))
        receipts = {r.peer_id: r for r in self.receipts.values() if r.ballot == plan.ballot}
        return RoundView(
            round_id=self.round_id,
            author=plan.peer_id,
            term=plan.term,
            attempt=plan.attempt,
            members=plan.roster,
            samples=plan.samples,
            receipts=len(largest_agreement(receipts)),
            avg_loss=plan.avg_loss,
            losses=self._losses_of(plan.roster),
            prev_digest=plan.prev_digest,
            voids=self._voids(plan.digest(), led),
        )

    def _begun(self, begun: Collection[str]) -> RoundView:
        term, attempt = max(self.begun, default=(0, 0))
        return RoundView(
            round_id=self.round_id,
            author=self.begun.get((term, attempt), ""),
            term=term,
            attempt=attempt,
            losses=self._losses_of(begun),
            voids=self._voids("", ()),
        )

    def _losses_of(self, peers: Iterable[str]) -> dict[str, float]:
        return {peer: self._losses[peer][-1] for peer in sorted(peers) if peer in self._losses}

    def _val_loss(self) -> float | None:
        told = [loss for _, loss in sorted(self._val_losses.values())]
        return sum(map(bounded, told)) / len(told) if told else None

    def _note_loss(self, peer_id: str, told: tuple[int, int, int, float]) -> None:
        self._losses[peer_id] = max(told, self._losses.get(peer_id, told))

    def _that_count(self, led: Led) -> list[RoundPlan]:
        voted = {(r.term, r.coordinator) for r in self.receipts.values() if r.peer_id != r.coordinator}
        return [p for p in self.plans.values() if (p.term, p.peer_id) in led or (p.term, p.peer_id) in voted]

    def _voids(self, winner: str, led: Led) -> tuple[VoidView, ...]:
        # Plans of one digest are one average, whoever repeats or finishes it. All but that of the commit, or
        # of the latest plan, were given up.
        attempts: dict[str, list[RoundPlan]] = {}
        plans = self._that_count(led)
        for plan in plans:
            attempts.setdefault(plan.digest(), []).append(plan)
        ballots = sorted({plan.ballot for plan in plans})
        found = {
            (void.term, void.attempt): void
            for digest, of_one in sorted(attempts.items())
            if digest != winner
            for void in [self._void(of_one, ballots)]
        }
        for (term, attempt), cause in self.voids.items():
            blamed = tuple(sorted(self.blamed.get(attempt, ())))
            found[term, attempt] = VoidView(term=term, attempt=attempt, cause=cause, blamed=blamed)
        return tuple(found[ballot] for ballot in sorted(found))

    def _void(self, plans: list[RoundPlan], ballots: list[Ballot]) -> VoidView:
        first = min(plan.ballot for plan in plans)
        last = max(plan.ballot for plan in plans)
        roster = set(plans[0].roster)
        receipts = [r for r in self.receipts.values() if r.plan_digest == plans[0].digest()]
        failed = {r.peer_id for r in receipts if not r.complete} & roster
        silent = roster - {r.peer_id for r in receipts}
        blamed = {r.blamed for r in receipts if r.blamed and not r.complete}
        later_term = next((b.term for b in ballots if b > last and b.term > last.term), None)
        return VoidView(
            term=first.term,
            attempt=first.attempt,
            cause=_why(len(roster), len(failed), len(silent), later_term),
            blamed=tuple(sorted(blamed)),
        )


def _why(num_members: int, num_failed: int, num_silent: int, later_term: int | None) -> str:
    if num_failed:
        silent = f", {num_silent} told nothing" if num_silent else ""
        return f"{num_failed} of {num_members} members did not get the whole average{silent}"
    if later_term is not None:
        return f"another coordinator began term {later_term}"
    if num_silent:
        return f"{num_silent} of {num_members} members told nothing"
    return "the members got different results, or told it too late"


def _keep(kept: dict[tuple[str, Any], _Statement], key: tuple[str, Any], record: _Statement) -> None:
    # Of two statements in one place the later counts; of each author only the latest are kept.
    known = kept.get(key)
    if known is not None and _order(known) >= _order(record):
        return
    kept[key] = record
    mine = [place for place in kept if place[0] == key[0]]
    if len(mine) > _MOST_OF_AN_AUTHOR:
        del kept[min(mine, key=lambda place: _order(kept[place]))]


def _order(record: _Statement) -> tuple[int, str]:
    return record.seq, record.model_dump_json()
