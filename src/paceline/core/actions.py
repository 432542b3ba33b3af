"""What the round protocol asks of its driver. The protocol decides; the driver does.

The order within one list matters: a `Promise` must be durable before the `Publish` that follows it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core.chain import Link
from paceline.core.events import Event
from paceline.core.records import CommitRecord, Record, RoundPlan, Vote


@dataclass(frozen=True)
class Publish:
    """Put a record on the board.

    Attributes:
        record: A draft: the driver stamps `seq` and `expires_at`, and signs.
    """

    record: Record


@dataclass(frozen=True)
class Promise:
    """Write down, durably, what this peer will never contradict, also not after a restart.

    Attributes:
        term: No vote in an earlier term.
        vote: The latest vote.
        plan: The plan voted for: whoever finishes the round after a coordinator's death may need it.
    """

    term: int = 0
    vote: Vote | None = None
    plan: RoundPlan | None = None


def contradiction(last: Promise, new: Promise, committed_round: int) -> str:
    """Tell how a promise would take back an earlier one. Whoever keeps promises durably refuses such a one.

    Args:
        last: The last durable promise.
        new: The next.
        committed_round: The last round in the author's log: votes up to it have served their purpose.

    Returns:
        What is taken back, or "" when nothing is.
    """
    if new.term < last.term:
        return f"term {new.term} is earlier than the promised term {last.term}"
    if last.vote is None or last.vote.round_id <= committed_round:
        return ""
    vote = new.vote
    if vote is None or (vote.round_id, vote.ballot) < (last.vote.round_id, last.vote.ballot):
        return f"the vote of round {last.vote.round_id} can't be taken back before its commit"
    if vote.ballot == last.vote.ballot and vote != last.vote:
        return f"a second, different vote in round {vote.round_id}, {vote.ballot}"
    return ""


@dataclass(frozen=True)
class Reduce:
    """Stop at the next step boundary and get this plan's result, durably: a vote may follow.

    Attributes:
        plan: The plan. One that adopts asks for no all-reduce but for another attempt's result.
        donors: Who holds that result.
    """

    plan: RoundPlan
    donors: tuple[str, ...] = ()


@dataclass(frozen=True)
class CancelReduce:
    """Give up a `Reduce` that was ordered earlier: it has been superseded.

    Attributes:
        plan_digest: Digest of its plan.
    """

    plan_digest: str


@dataclass(frozen=True)
class Apply:
    """Take the outer step with the staged average, and log the commit.

    Attributes:
        commit: The commit, checked against its receipts.
        link: The same, sealed, for the log.
    """

    commit: CommitRecord
    link: Link


@dataclass(frozen=True)
class Repair:
    """Fetch history and state from others.

    Attributes:
        donors: Peers that say they have them, those known to the swarm first.
    """

    donors: tuple[str, ...]


@dataclass(frozen=True)
class Tell:
    """Emit a fact.

    Attributes:
        event: The fact.
    """

    event: Event


@dataclass(frozen=True)
class Finish:
    """The run is complete and nobody needs this peer any more."""


Action = Publish | Promise | Reduce | CancelReduce | Apply | Repair | Tell | Finish
