"""Signs a round of nodes that all live in one process, so that it is a link like any other.

The records are the swarm's, and so is what makes a commit of them (`paceline.core.coordination`): a plan, a
receipt of each node, a commit. Only the waiting between them is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypedDict

from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.coordination import committed_state
from paceline.core.election import coordinator
from paceline.core.records import CommitRecord, GlobalState, Record, RoundPlan, RoundReceipt
from paceline.core.signing import SigningKey
from paceline.core.wire import seal
from paceline.federation.models import LocalUpdate


class _Stamp(TypedDict):
    run_id: str
    peer_id: str
    seq: int
    expires_at: float


class Notary:
    """Holds the keys of all nodes of a session, and writes its links.

    The coordinator changes from round to round. Every node signs that the result is there, also one that sat
    the round out: it shares the folder with the others, and so holds the result as well. So a majority of
    those who took part last backs each commit, whoever takes part in it.
    """

    def __init__(
        self, run: RunConfig, keys: Sequence[SigningKey], clock: Callable[[], float] = time.time
    ) -> None:
        """Take the keys.

        Args:
            run: The run's parameters.
            keys: The keys of all its nodes.
            clock: Seconds since 1970.
        """
        self._run, self._clock, self._seq = run, clock, 0
        self._keys = {key.peer_id: key for key in keys}

    def check(self, updates: Sequence[LocalUpdate]) -> None:
        """Refuse updates of strangers, for whom nobody could sign.

        Args:
            updates: A round's updates.

        Raises:
            ValueError: Names the first one.
        """
        for update in updates:
            if update.node_id not in self._keys:
                raise ValueError(
                    f"node {update.node_id!r} is none of the {len(self._keys)} nodes of this session"
                )

    def link(
        self, head: GlobalState, updates: Sequence[LocalUpdate], avg_loss: float, weights_digest: str
    ) -> Link:
        """Write the link that commits the next round.

        Args:
            head: The last commit.
            updates: One update per participating node.
            avg_loss: The plain mean of their losses.
            weights_digest: Digest of the averaged vectors.

        Returns:
            The sealed commit with the receipts of all nodes.
        """
        given = {update.node_id: update for update in updates}
        roster, term = sorted(given), head.round_id + 1
        front = self._keys[coordinator(self._run.run_id, term, roster)]
        plan = RoundPlan(
            **self._stamp(front, RoundPlan),
            round_id=head.round_id + 1,
            term=term,
            attempt=0,
            prev_digest=head.digest(),
            roster=tuple(roster),
            samples=tuple(given[node_id].samples_used for node_id in roster),
            avg_loss=avg_loss,
        )
        receipts = [
            self._receipt(plan, key, weights_digest, given.get(peer)) for peer, key in self._keys.items()
        ]
        commit = CommitRecord(
            **self._stamp(front, CommitRecord),
            state=committed_state(plan, receipts[0]),
            ballot_term=plan.term,
            ballot_attempt=plan.attempt,
        )
        signed = tuple(seal(receipt, self._keys[receipt.peer_id]) for receipt in receipts)
        return Link(seal(commit, front), signed)

    def _receipt(
        self, plan: RoundPlan, key: SigningKey, weights_digest: str, update: LocalUpdate | None
    ) -> RoundReceipt:
        return RoundReceipt(
            **self._stamp(key, RoundReceipt),
            round_id=plan.round_id,
            term=plan.term,
            attempt=plan.attempt,
            coordinator=plan.peer_id,
            plan_digest=plan.digest(),
            complete=True,
            weights_digest=weights_digest,
            samples=update.samples_used if update is not None else 0,
            loss=update.loss if update is not None else 0.0,
        )

    def _stamp(self, key: SigningKey, kind: type[Record]) -> _Stamp:
        now = self._clock()
        self._seq = max(self._seq + 1, int(now * 1000))
        return {
            "run_id": self._run.run_id,
            "peer_id": key.peer_id,
            "seq": self._seq,
            "expires_at": now + kind.lifetime_s,
        }
