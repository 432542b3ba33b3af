"""What peers of a made-up run say: every record that a round leaves on the board, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paceline.core.config import RunConfig
from paceline.core.records import (
    CreditRecord,
    GlobalState,
    PeerRecord,
    Phase,
    Record,
    RoundPlan,
    WorkerMetrics,
)
from paceline.core.signing import SigningKey
from tests.core.history import commit_of, genesis_of, next_state, peers, receipt_of, run_of

KEYS = peers(4)
IDS = [key.peer_id for key in KEYS]
RUN = run_of(KEYS, rounds=12)
T0 = 1_800_000_000.0


def beat(peer: int, round_id: int = 1, at: float = T0, run: RunConfig = RUN, **changes: Any) -> PeerRecord:
    """A heartbeat of a peer that trains and follows the first one in term 1."""
    content = {
        "run_id": run.run_id,
        "peer_id": IDS[peer],
        "seq": int(1000 * at),
        "expires_at": at + 90,
        "round_id": round_id,
        "head_digest": "",
        "phase": Phase.TRAIN,
        "inner_step": 5,
        "samples": 40,
        "samples_per_s": 10.0,
        "loss": 3.0,
        "term": 1,
        "coordinator": IDS[0],
    }
    return PeerRecord.model_validate(content | changes)


def plan_of(state: GlobalState, author: SigningKey = KEYS[0], **changes: Any) -> RoundPlan:
    """The plan that leads to a commit."""
    content = {
        "run_id": state.run_id,
        "peer_id": author.peer_id,
        "seq": 1,
        "expires_at": T0 + 600,
        "round_id": state.round_id,
        "term": state.term,
        "attempt": state.attempt,
        "prev_digest": state.prev_digest,
        "roster": state.participating_nodes,
        "samples": state.samples,
        "avg_loss": state.avg_loss,
    }
    return RoundPlan.model_validate(content | changes)


def states(rounds: int, run: RunConfig = RUN, keys: Sequence[SigningKey] = KEYS) -> list[GlobalState]:
    """A chain of commits."""
    head, found = genesis_of(run), []
    for _ in range(rounds):
        head = next_state(run, head, keys)
        found.append(head)
    return found


def round_of(state: GlobalState, at: float, keys: Sequence[SigningKey] = KEYS) -> list[Record]:
    """All that is said in a round that goes well."""
    seq: dict[str, Any] = {"seq": int(1000 * at)}
    commit = commit_of(state, keys[0], **seq)
    said: list[Record] = [
        beat(IDS.index(key.peer_id), state.round_id, at, head_digest=state.prev_digest) for key in keys
    ]
    said.append(plan_of(state, **seq))
    said += [receipt_of(commit, key, loss=2.0 + number, **seq) for number, key in enumerate(keys)]
    said.append(commit)
    for number, key in enumerate(keys):
        head = {"run_id": state.run_id, "peer_id": key.peer_id, "expires_at": at + 600, **seq}
        measured = {"loss": 2.0 + number, "val_loss": 1.5, "bytes_in": 0, "bytes_out": 100 * state.round_id}
        said.append(WorkerMetrics.model_validate({**head, **measured, "round_id": state.round_id}))
        balance = {"round_id": state.round_id, "head_digest": state.digest(), "balance": 8 * state.round_id}
        said.append(CreditRecord.model_validate({**head, **balance}))
    return said
