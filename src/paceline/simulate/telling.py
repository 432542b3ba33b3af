"""What virtual peers do, in words."""

from __future__ import annotations

from paceline.core.actions import Action, Apply, CancelReduce, Promise, Publish, Reduce, Repair, Tell
from paceline.core.events import AttemptVoided, CoordinatorChanged, DriftDetected, QuorumMissing
from paceline.core.records import Ballot, CommitRecord, PeerRecord, Record, RoundPlan, RoundReceipt


def spell(action: Action) -> str:
    """Say what an action means.

    Args:
        action: The action.

    Returns:
        A few words, or "" for what happens all the time.
    """
    match action:
        case Publish(record):
            return _record(record)
        case Promise(term, vote, _):
            voted = f", vote for {vote.weights_digest[:6]} in {_attempt(vote.ballot)}" if vote else ""
            return f"promises term {term}{voted}"
        case Reduce(plan, donors):
            return f"begins {_plan(plan)}{f', asks {_names(donors)}' if donors else ''}"
        case CancelReduce():
            return "gives up its all-reduce"
        case Apply(commit, link):
            return f"applies round {commit.state.round_id} ({len(link.receipts)} receipts)"
        case Repair(donors):
            return f"repairs itself from {_names(donors)}"
        case Tell(event):
            return _event(event)
        case _:
            return ""


def _record(record: Record) -> str:
    match record:
        case RoundPlan():
            return f"plans {_plan(record)}"
        case RoundReceipt(complete=True):
            where = f"{_attempt(record.ballot)} of round {record.round_id}"
            return f"votes for {record.weights_digest[:6]} in {where}"
        case RoundReceipt():
            blamed = f", blames {record.blamed}" if record.blamed else ""
            return f"got nothing from {_attempt(record.ballot)}{blamed}"
        case CommitRecord(state=state):
            return f"commits round {state.round_id} as {state.digest()[:6]}"
        case PeerRecord():
            vote = f", has voted in {_attempt(record.vote.ballot)}" if record.vote else ""
            whom = f"follows {record.coordinator}" if record.coordinator else "follows nobody"
            return f"says: round {record.round_id} {record.phase.value}, {whom} in term {record.term}{vote}"
        case _:
            return ""


def _plan(plan: RoundPlan) -> str:
    adopts = plan.adopts
    how = f"the result of {_attempt(adopts.ballot)} again" if adopts else f"with {_names(plan.roster)}"
    gone = f", without {_names(plan.departed)} for good" if plan.departed else ""
    return f"{_attempt(plan.ballot)} of round {plan.round_id}: {how}{gone}"


def _attempt(ballot: Ballot) -> str:
    return f"attempt {ballot.term}.{ballot.attempt}"


def _names(peers: tuple[str, ...]) -> str:
    return " ".join(peers)


def _event(event: object) -> str:
    match event:
        case CoordinatorChanged():
            return f"follows {event.coordinator} in term {event.term}"
        case AttemptVoided():
            return f"gives up its attempt {event.attempt}: {event.cause}"
        case DriftDetected():
            return "finds that it has drifted"
        case QuorumMissing():
            return f"misses a quorum: {event.got} of {event.needed}"
        case _:
            return ""
