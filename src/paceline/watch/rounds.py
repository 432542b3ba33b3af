"""One round, from what was said of it: its attempts, who voted for what, and how it ended.

All that is kept here is a set of statements: the order in which they came makes no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from paceline.core import chain
from paceline.core.coordination import largest_agreement
from paceline.core.records import Ballot, CommitRecord, PeerRecord, RoundPlan, RoundReceipt, WorkerMetrics
from paceline.watch.bounds import bounded
from paceline.watch.picture import RoundView, VoidView
from paceline.watch.statements import Statements, has_room

_MOST_SEEN = 4096
_FROM_HEARTBEAT, _FROM_RECEIPT, _FROM_METRICS = 0, 1, 2

Led = Collection[tuple[int, str]]
"""Terms and coordinators that a member follows: whoever else publishes plans only says so."""


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
        members: Those who are, or were, in a committed roster, as far as they are known at any time.
        plans: Plans by author and ballot.
        receipts: Receipts by author and ballot.
        commits: Commits by author and digest.
        begun: Who planned an attempt, as event files tell, by term and attempt.
        voids: Why an attempt was given up, as event files tell, by term and attempt.
        blamed: Whom members held responsible, as event files tell, by attempt.
        seen_at: When something that shows a commit was first seen, in seconds since 1970, by its digest.
        told: What peers told to have applied, by peer: all there is of a round when its log is missing.
    """

    round_id: int
    members: Collection[str] = ()
    plans: Statements[Ballot, RoundPlan] = field(init=False)
    receipts: Statements[Ballot, RoundReceipt] = field(init=False)
    commits: Statements[str, CommitRecord] = field(init=False)
    begun: dict[tuple[int, int], str] = field(default_factory=dict)
    voids: dict[tuple[int, int], str] = field(default_factory=dict)
    blamed: dict[int, set[str]] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)
    told: dict[str, Applied] = field(default_factory=dict)
    _losses: dict[str, tuple[int, int, int, float]] = field(default_factory=dict)
    _val_losses: dict[str, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plans = Statements(self.members)
        self.receipts = Statements(self.members)
        self.commits = Statements(self.members)

    def take(self, record: PeerRecord | RoundPlan | RoundReceipt | CommitRecord | WorkerMetrics) -> bool:
        """Note what a record says.

        Args:
            record: A record about this round.

        Returns:
            Whether there was room for it.
        """
        match record:
            case RoundPlan():
                return self.plans.keep(record.ballot, record)
            case RoundReceipt():
                self._note_loss(record.peer_id, (_FROM_RECEIPT, *record.ballot, record.loss))
                return self.receipts.keep(record.ballot, record)
            case CommitRecord():
                return self.commits.keep(record.state.digest(), record)
            case PeerRecord():
                told = (_FROM_HEARTBEAT, record.inner_step, record.seq, record.loss)
                return not record.samples or self._note_loss(record.peer_id, told)
            case WorkerMetrics():
                if record.val_loss is not None:
                    self.note_val_loss(record.peer_id, record.seq, record.val_loss)
                return self._note_loss(record.peer_id, (_FROM_METRICS, record.seq, 0, record.loss))

    def see(self, digest: str, at: float) -> None:
        """Note that something shows a commit.

        Args:
            digest: Of the commit.
            at: When it was seen, in seconds since 1970; the earliest time counts.
        """
        self.seen_at[digest] = min(at, self.seen_at.get(digest, at))
        if len(self.seen_at) > _MOST_SEEN:
            kept = {commit.state.digest() for commit in self.commits} | {t.digest for t in self.told.values()}
            self.seen_at = {digest: seen for digest, seen in self.seen_at.items() if digest in kept}

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
            loss: Nats per token.
        """
        if has_room(peer_id, self._val_losses, self.members):
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
        backers = chain.votes_for(commit, chain.votes(self.receipts))
        return RoundView(
            round_id=self.round_id,
            committed_at=self.seen_at.get(digest),
            author=commit.peer_id,
            term=state.term,
            attempt=state.attempt,
            members=tuple(state.participating_nodes),
            samples=tuple(state.samples),
            receipts=len(backers.intersection(state.participating_nodes)),
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
        receipts = {
            r.peer_id: r for r in self.receipts if r.ballot == plan.ballot and r.peer_id in plan.roster
        }
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
        told = [loss for peer, (_, loss) in sorted(self._val_losses.items()) if self._counts(peer)]
        return sum(map(bounded, told)) / len(told) if told else None

    def _note_loss(self, peer_id: str, told: tuple[int, int, int, float]) -> bool:
        if not has_room(peer_id, self._losses, self.members):
            return False
        self._losses[peer_id] = max(told, self._losses.get(peer_id, told))
        return True

    def _counts(self, peer_id: str) -> bool:
        return not self.members or peer_id in self.members

    def _that_count(self, led: Led) -> list[RoundPlan]:
        votes = [r for r in self.receipts if r.peer_id != r.coordinator and self._counts(r.peer_id)]
        voted = {(r.term, r.coordinator) for r in votes}
        return [p for p in self.plans if (p.term, p.peer_id) in led or (p.term, p.peer_id) in voted]

    def _voids(self, winner: str, led: Led) -> tuple[VoidView, ...]:
        # Plans of one digest are one average, whoever repeats or finishes it. All but that of the commit, or
        # of the latest plan, were given up.
        attempts: dict[str, list[RoundPlan]] = {}
        plans = self._that_count(led)
        for plan in plans:
            attempts.setdefault(plan.digest(), []).append(plan)
        ballots = sorted({plan.ballot for plan in plans})
        receipts: dict[str, list[RoundReceipt]] = {}
        for receipt in self.receipts:
            receipts.setdefault(receipt.plan_digest, []).append(receipt)
        found = {
            (void.term, void.attempt): void
            for digest, of_one in sorted(attempts.items())
            if digest != winner
            for void in [_void(of_one, ballots, receipts.get(digest, []))]
        }
        for (term, attempt), cause in self.voids.items():
            blamed = tuple(sorted(self.blamed.get(attempt, ())))
            found[term, attempt] = VoidView(term=term, attempt=attempt, cause=cause, blamed=blamed)
        return tuple(found[ballot] for ballot in sorted(found))


def _void(plans: list[RoundPlan], ballots: list[Ballot], receipts: list[RoundReceipt]) -> VoidView:
    first = min(plan.ballot for plan in plans)
    last = max(plan.ballot for plan in plans)
    roster = set(plans[0].roster)
    told = [receipt for receipt in receipts if receipt.peer_id in roster]
    failed = {receipt.peer_id for receipt in told if not receipt.complete}
    silent = roster - {receipt.peer_id for receipt in told}
    blamed = {receipt.blamed for receipt in told if receipt.blamed and not receipt.complete}
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
