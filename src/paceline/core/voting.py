"""What a peer has voted for and promised, before and after a restart: said once, and never taken back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from paceline.core.actions import Action, Promise, Publish
from paceline.core.records import GlobalState, RoundPlan, RoundReceipt, Vote
from paceline.core.standing import Standing
from paceline.core.voice import Progress


@dataclass(frozen=True)
class Staged:
    """A round's result that is complete and on this peer's disk, but not yet applied.

    Attributes:
        plan_digest: Digest of the plan it came from.
        weights_digest: Digest of the anchor it would leave.
        momentum_digest: Digest of the outer momentum it would leave.
    """

    plan_digest: str
    weights_digest: str
    momentum_digest: str


@dataclass(frozen=True)
class Remembered:
    """What a peer's disk says of its earlier lives.

    Attributes:
        promised: Its last durable promise.
        staged: The result that it voted for, if that is still there.
        logged: The last round in its log: a later one than it stands on if that one's state is lost.
    """

    promised: Promise = field(default_factory=Promise)
    staged: Staged | None = None
    logged: int = 0


def staged_by(source: GlobalState | Vote) -> Staged:
    """Name the result that a commit or a vote stands for.

    Args:
        source: The commit or the vote.

    Returns:
        The result, as whoever holds it has it staged.
    """
    return Staged(source.plan_digest, source.weights_digest, source.momentum_digest)


class Voting:
    """One peer's votes.

    Attributes:
        vote: Its latest vote in this round.
    """

    def __init__(self, standing: Standing, remembered: Remembered) -> None:
        """Remember what was promised before a restart.

        Args:
            standing: What this peer knows.
            remembered: What its disk says.
        """
        self.vote: Vote | None = None
        self._standing = standing
        self._promised, self._logged = remembered.promised, remembered.logged
        self.begin_round()

    def begin_round(self) -> None:
        """Forget the last round's vote; what was promised before a restart stays true in its round."""
        vote, plan = self._promised.vote, self._promised.plan
        self.vote = None
        if vote is not None and vote.round_id == self._standing.round_id:
            self.vote = vote
            if plan is not None:
                self._standing.plans.setdefault(plan.digest(), plan)

    @property
    def knows_of_more(self) -> bool:
        """Whether this peer has voted in a later round than the one it stands in, or has that one in its log.

        Then its state is lost and its vote in this round long forgotten: all it may do is repair itself. If
        it followed a coordinator, that one would take it for a peer that has not voted.
        """
        vote, round_id = self._promised.vote, self._standing.round_id
        return self._logged >= round_id or (vote is not None and vote.round_id > round_id)

    def promise(self) -> Promise:
        """Sum up what this peer must never contradict from now on.

        Returns:
            The promise, with the plan of its vote: whoever finishes the round may need it.
        """
        if self.vote is not None:
            self._promised = Promise(0, self.vote, self._standing.plans.get(self.vote.plan_digest))
        return replace(self._promised, term=self._standing.term)

    def hand_on_plan(self) -> list[Action]:
        """Show a new coordinator the plan voted for: it may have to finish it, and the old one may be gone.

        Returns:
            The plan to publish, if it is needed.
        """
        standing = self._standing
        plan = standing.plans.get(self.vote.plan_digest) if self.vote else None
        if plan is None or standing.coordinator == standing.me or plan.term >= standing.term:
            return []
        return [Publish(plan.model_copy(update={"peer_id": standing.me}))]

    def attest(self, plan: RoundPlan, result: Staged | None, progress: Progress, blamed: str) -> list[Action]:
        """Say what this peer got from an attempt; a complete result is its vote, promised first.

        Args:
            plan: The plan followed.
            result: The complete result, durable, or None.
            progress: How far this peer has trained.
            blamed: Who is held responsible for a failure.

        Returns:
            What to do, in this order.
        """
        standing = self._standing
        receipt = RoundReceipt(
            run_id=standing.run.run_id,
            peer_id=standing.me,
            seq=0,
            expires_at=0.0,
            round_id=plan.round_id,
            term=plan.term,
            attempt=plan.attempt,
            coordinator=plan.peer_id,
            departed=plan.departed,
            plan_digest=plan.digest(),
            complete=result is not None,
            weights_digest=result.weights_digest if result else "",
            momentum_digest=result.momentum_digest if result else "",
            samples=progress.samples,
            loss=progress.loss,
            blamed=blamed,
        )
        vote = receipt.vote()
        if vote is None:
            return [Publish(receipt)]
        self.vote = vote
        return [self.promise(), Publish(receipt)]
