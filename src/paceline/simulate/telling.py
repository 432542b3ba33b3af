"""What virtual peers do, in words."""

from __future__ import annotations

from paceline.core.actions import Action, Apply, CancelReduce, Promise, Publish, Reduce, Repair, Tell
from paceline.core.events import AttemptVoided, CoordinatorChanged, DriftDetected, QuorumMissing
from paceline.core.records import CommitRecord, PeerRecord, Record, RoundPlan, RoundReceipt
from paceline.core.signing import short


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
            voted = f", vote for {vote.weights_digest[:6]} in {tuple(vote.ballot)}" if vote else ""
            return f"promises term {term}{voted}"
        case Reduce(plan, donors):
            return f"reduces {_plan(plan)}{f', asks {_names(donors)}' if donors else ''}"
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
            return f"votes {record.weights_digest[:6]} in {tuple(record.ballot)} of round {record.round_id}"
        case RoundReceipt():
            blamed = f", blames {short(record.blamed)}" if record.blamed else ""
            return f"reports failure of {tuple(record.ballot)}{blamed}"
        case CommitRecord(state=state):
            return f"commits round {state.round_id} as {state.digest()[:6]}"
        case PeerRecord():
            vote = f", voted {tuple(record.vote.ballot)}" if record.vote else ""
            return (
                f"says: round {record.round_id} {record.phase.value}, term {record.term} "
                f"{short(record.coordinator)}{vote}"
            )
        case _:
            return ""


def _plan(plan: RoundPlan) -> str:
    kind = f"adopting {tuple(plan.adopts.ballot)}" if plan.adopts else _names(plan.roster)
    gone = f", departed {_names(plan.departed)}" if plan.departed else ""
    return f"round {plan.round_id} {tuple(plan.ballot)}: {kind}{gone}"


def _names(peers: tuple[str, ...]) -> str:
    return " ".join(short(peer) for peer in peers)


def _event(event: object) -> str:
    match event:
        case CoordinatorChanged():
            return f"follows {short(event.coordinator)} in term {event.term}"
        case AttemptVoided():
            return f"voids attempt {event.attempt}: {event.cause}"
        case DriftDetected():
            return "finds that it has drifted"
        case QuorumMissing():
            return f"misses a quorum: {event.got} of {event.needed}"
        case _:
            return ""
