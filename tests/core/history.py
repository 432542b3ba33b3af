"""Histories for tests: peers with fixed keys, and links that verify unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paceline.core import chain
from paceline.core.chain import Link
from paceline.core.config import OuterConfig, QuorumConfig, RunConfig
from paceline.core.records import CommitRecord, GlobalState, RoundReceipt
from paceline.core.signing import SigningKey
from paceline.core.wire import seal

WEIGHTS, MOMENTUM = "0a" * 32, "0b" * 32


def peers(count: int) -> list[SigningKey]:
    """Make keys, the same every time, sorted by peer id."""
    keys = [SigningKey.from_seed(bytes([number]) * 32) for number in range(count)]
    return sorted(keys, key=lambda key: key.peer_id)


def run_of(keys: Sequence[SigningKey], **changes: Any) -> RunConfig:
    """Make a run that these peers founded. Its outer step is spelled out: golden examples hold its digest,
    and what a run would choose by itself is tuned from time to time."""
    given = {"name": "test", "quorum": QuorumConfig(founders=tuple(key.peer_id for key in keys))}
    return RunConfig(**{**given, "outer": OuterConfig(lr=0.6, momentum=0.5), **changes})


def genesis_of(run: RunConfig) -> GlobalState:
    """Make the beginning of a run."""
    return chain.genesis(run, WEIGHTS, MOMENTUM)


def next_state(run: RunConfig, head: GlobalState, keys: Sequence[SigningKey], **changes: Any) -> GlobalState:
    """Make the state that follows, each member with 8 samples; its plan digest fits unless given."""
    round_id = head.round_id + 1
    content = {
        "round_id": round_id,
        "run_id": run.run_id,
        "participating_nodes": [key.peer_id for key in keys],
        "samples": [8] * len(keys),
        "avg_loss": 5.0 / round_id,
        "term": 1,
        "prev_digest": head.digest(),
        "weights_digest": f"{round_id:064x}",
        "momentum_digest": f"{round_id + 1:064x}",
        **changes,
    }
    state = GlobalState.model_validate(content)
    return state.model_copy(update={"plan_digest": changes.get("plan_digest", state.averaged_plan_digest())})


def commit_of(state: GlobalState, publisher: SigningKey, **changes: Any) -> CommitRecord:
    """Make the record of a commit."""
    content = {
        "run_id": state.run_id,
        "peer_id": publisher.peer_id,
        "seq": 1,
        "expires_at": 1e9,
        "state": state,
        "ballot_term": state.term,
        "ballot_attempt": state.attempt,
        **changes,
    }
    return CommitRecord.model_validate(content)


def receipt_of(commit: CommitRecord, voter: SigningKey, **changes: Any) -> RoundReceipt:
    """Make one member's vote for a commit."""
    state = commit.state
    content = {
        "run_id": commit.run_id,
        "peer_id": voter.peer_id,
        "seq": 1,
        "expires_at": 1e9,
        "round_id": state.round_id,
        "term": commit.ballot_term,
        "attempt": commit.ballot_attempt,
        "coordinator": commit.peer_id,
        "departed": commit.departed,
        "plan_digest": state.plan_digest,
        "complete": True,
        "weights_digest": state.weights_digest,
        "momentum_digest": state.momentum_digest,
        "samples": 8,
        "loss": 2.5,
        **changes,
    }
    return RoundReceipt.model_validate(content)


def link_of(commit: CommitRecord, publisher: SigningKey, voters: Sequence[SigningKey]) -> Link:
    """Seal a commit with the receipts of these voters."""
    receipts = tuple(seal(receipt_of(commit, voter), voter) for voter in voters)
    return Link(seal(commit, publisher), receipts)


def history(run: RunConfig, keys: Sequence[SigningKey], rounds: int) -> list[Link]:
    """Make a whole history, backed by everybody in every round."""
    head, links = genesis_of(run), []
    for _ in range(rounds):
        head = next_state(run, head, keys)
        links.append(link_of(commit_of(head, keys[0]), keys[0], keys))
    return links
