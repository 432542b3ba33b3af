"""Who sees everything that virtual peers do, and says when a promise of the protocol is broken."""

from __future__ import annotations

from paceline.core.credits import fold
from paceline.core.records import (
    Ballot,
    CommitRecord,
    GlobalState,
    PeerRecord,
    Record,
    RoundPlan,
    RoundReceipt,
    Vote,
)
from paceline.simulate.disk import Disk, State, state_of


class Violation(Exception):
    """A promise was broken.

    Attributes:
        invariant: Its short name.
    """

    def __init__(self, invariant: str, what: str) -> None:
        self.invariant = invariant
        super().__init__(f"{invariant}: {what}")


class Witness:
    """Remembers every record and every applied commit of a day.

    Guarantees:
        No two commits of one round differ.
        Whoever has applied a round has the same digest.
        The chain verifies.
        Credits are the same fold everywhere and never shrink.
        No step is credited twice.
        A peer never votes twice in one ballot.
        A peer never votes below a term it has promised.
        A ballot has one plan.
        A vote is on disk, promise and result, before it is published.

    Attributes:
        commits: Digest of the commit of each round.
        height: The last round that anybody has applied.
    """

    def __init__(self, genesis: GlobalState) -> None:
        """Begin a day.

        Args:
            genesis: Where every chain begins.
        """
        self.commits: dict[int, str] = {0: genesis.digest()}
        self.height = 0
        self._chain = [genesis]
        self._balances: list[dict[str, int]] = [fold([genesis])]
        self._plans: dict[tuple[int, Ballot], tuple[str, object]] = {}
        self._votes: dict[tuple[str, int, Ballot], tuple[str, State]] = {}
        self._last_votes: dict[str, tuple[int, Ballot]] = {}
        self._terms: dict[str, int] = {}
        self._trained: dict[str, int] = {}

    def trained(self, peer_id: str, samples: int) -> None:
        """See a peer take an inner step.

        Args:
            peer_id: Who.
            samples: On how many samples.
        """
        self._trained[peer_id] = self._trained.get(peer_id, 0) + samples

    def published(self, record: Record, disk: Disk) -> None:
        """See a record that a peer signs.

        Args:
            record: The record.
            disk: Its author's disk at this moment.
        """
        match record:
            case PeerRecord():
                self._heard(record, disk)
            case RoundPlan():
                self._planned(record)
            case RoundReceipt():
                self._attested(record, disk)
            case CommitRecord():
                self._is_the_commit(record.state, record.peer_id)
            case _:
                pass

    def applied(self, peer_id: str, disk: Disk) -> None:
        """See that a peer has added a commit to its log.

        Args:
            peer_id: Who.
            disk: Its disk, with the commit.

        Raises:
            Violation: A promise is broken.
        """
        state = disk.head
        self._is_the_commit(state, peer_id)
        if len(disk.states) != state.round_id + 1:
            raise Violation("the chain verifies", f"{peer_id} has a gap before round {state.round_id}")
        if state.round_id > self.height:
            self.height = state.round_id
            self._chain.append(state)
            self._balances.append(fold(self._chain))
        if disk.balances != self._balances[state.round_id]:
            raise Violation("credits are one fold", f"{peer_id} counts otherwise at round {state.round_id}")
        before = self._balances[state.round_id - 1]
        if any(disk.balances.get(who, 0) < had for who, had in before.items()):
            raise Violation("credits never shrink", f"someone lost credits in round {state.round_id}")
        if any(had > self._trained.get(who, 0) for who, had in disk.balances.items()):
            raise Violation("a step counts once", f"round {state.round_id} credits more than was trained")

    def stands_on(self, peer_id: str, head: GlobalState, state: State | None) -> None:
        """See the state that a peer trains from.

        Args:
            peer_id: Who.
            head: Its last commit.
            state: Digests of its anchor and momentum.

        Raises:
            Violation: These are not what the commit names.
        """
        if head.round_id and state != state_of(head):
            raise Violation("one digest per round", f"{peer_id} has other bits after round {head.round_id}")

    def _is_the_commit(self, state: GlobalState, peer_id: str) -> None:
        digest = state.digest()
        if self.commits.setdefault(state.round_id, digest) != digest:
            raise Violation("one commit per round", f"{peer_id} has another commit of round {state.round_id}")

    def _heard(self, record: PeerRecord, disk: Disk) -> None:
        who = record.peer_id
        if record.term < self._terms.get(who, 0):
            raise Violation("terms only grow", f"{who} went back to term {record.term}")
        if record.term > disk.promised.term:
            raise Violation("promises are durable", f"{who} says term {record.term} before it is on disk")
        self._terms[who] = record.term
        if record.vote is not None:
            self._vote(who, record.vote)

    def _planned(self, plan: RoundPlan) -> None:
        content = (plan.roster, plan.samples, plan.adopts, plan.origin, plan.departed, plan.avg_loss)
        said = (plan.digest(), content)
        if self._plans.setdefault((plan.round_id, plan.ballot), said) != said:
            raise Violation("one plan per ballot", f"a second plan for round {plan.round_id}, {plan.ballot}")

    def _attested(self, receipt: RoundReceipt, disk: Disk) -> None:
        vote, who = receipt.vote(), receipt.peer_id
        place = (who, receipt.round_id, receipt.ballot)
        if vote is None:
            if place in self._votes:
                raise Violation("one vote per ballot", f"{who} takes back its vote in {receipt.ballot}")
            return
        self._vote(who, vote)
        if vote.term < max(self._terms.get(who, 0), disk.promised.term):
            raise Violation(
                "promised terms hold", f"{who} votes in term {vote.term}, having promised a later one"
            )
        if disk.promised.vote != vote:
            raise Violation("promises are durable", f"{who} votes before the vote is on disk")
        if not disk.holds(vote):
            raise Violation("votes are on disk", f"{who} votes for a result that it does not hold")

    def _vote(self, who: str, vote: Vote) -> None:
        said = (vote.plan_digest, state_of(vote))
        if self._votes.setdefault((who, vote.round_id, vote.ballot), said) != said:
            raise Violation(
                "one vote per ballot", f"{who} votes twice in {vote.ballot} of round {vote.round_id}"
            )
        if self._last_votes.get(who, (0, Ballot(0, 0))) > (vote.round_id, vote.ballot):
            raise Violation("votes only advance", f"{who} goes back to its vote in {vote.ballot}")
        self._last_votes[who] = (vote.round_id, vote.ballot)
