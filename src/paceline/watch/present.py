"""Evidence from a live swarm: what is on its board now, and for earlier rounds what its peers' logs hold."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import HistoryBroken, PacelineError
from paceline.core.records import (
    CommitRecord,
    CreditRecord,
    GlobalState,
    PeerRecord,
    Record,
    RoundPlan,
    RoundReceipt,
)
from paceline.network.board import Board
from paceline.network.lookout import Lookout
from paceline.peer.observer import looking_out
from paceline.watch.commits import Footing, footing_of, is_well_formed, verified
from paceline.watch.evidence import Blame, Evidence, Glimpse
from paceline.watch.picture import Standing

_KINDS = ("peer", "plan", "receipt", "commit", "credits")
_LISTEN_S, _LOOK_AGAIN_S = 3.0, 0.4
_ANSWER_S = 40.0
_MOST_DONORS = 3


@contextmanager
def ask_swarm(target: Handout | str) -> Iterator[PresentInquiry]:
    """Look at a live swarm; call this in the main thread, before there are others.

    Args:
        target: The run's hand-out, or the multiaddr of any of its peers.

    Yields:
        Whom to ask.

    Raises:
        JoinError: The swarm could not be reached, or trains another run.
    """
    with looking_out(target) as (lookout, board, run):
        yield PresentInquiry(run, _heard(board), lookout)


class PresentInquiry:
    """Asks what is on a board.

    Attributes:
        run: The run's parameters.
        height: The last committed round.
        known: Everybody that is there, or in the last roster.
    """

    def __init__(self, run: RunConfig, records: Sequence[Record], lookout: Lookout | None = None) -> None:
        """Look at the records.

        Args:
            run: The run's parameters.
            records: The latest of each kind and author, and perhaps earlier ones.
            lookout: Reaches the peers, for what the board does not hold; None to do without.
        """
        self.run, self._records, self._lookout = run, records, lookout
        self._peers = {r.peer_id: r for r in records if isinstance(r, PeerRecord)}
        self._head = _head(run, records, list(self._peers.values()))
        self.height = self._head.round_id if self._head is not None else 0
        balances = {r.peer_id for r in records if isinstance(r, CreditRecord)}
        members = self._head.participating_nodes if self._head is not None else run.quorum.founders
        self.known = frozenset({*self._peers, *balances, *members, *run.quorum.founders})

    def evidence(self, peer_id: str, round_id: int) -> Evidence:
        """Gather what is known of one peer in one round.

        Args:
            peer_id: Who.
            round_id: In which round; any number.

        Returns:
            What is known.

        Raises:
            PacelineError: The round is an earlier one, and no peer gave a history that verifies.
        """
        found = Evidence(self.run, self.height, self.known)
        if 1 <= round_id < self.height:
            state, receipts = self._earlier(round_id)
            return _with_commit(found, state, peer_id, receipts)
        plans = [r for r in self._records if isinstance(r, RoundPlan) and r.round_id == round_id]
        receipts = [r for r in self._records if isinstance(r, RoundReceipt) and r.round_id == round_id]
        latest = max(plans, key=lambda plan: plan.ballot, default=None)
        if round_id == self.height:
            found = _with_commit(found, self._head, peer_id, receipts)
        elif latest is not None:
            found = replace(found, planned=latest.roster)
        failed = [receipt for receipt in receipts if not receipt.complete]
        blames = tuple(Blame(r.peer_id, r.attempt, "", r.blamed) for r in failed)
        took_part = frozenset(
            plan.attempt for plan in plans if plan is not latest and peer_id in plan.roster
        ) | frozenset(receipt.attempt for receipt in failed if receipt.peer_id == peer_id)
        found = replace(found, blames=blames, took_part=took_part, voids=_voids(failed, latest))
        return self._with_glimpse(found, peer_id, round_id, latest)

    def _with_glimpse(self, found: Evidence, peer_id: str, round_id: int, plan: RoundPlan | None) -> Evidence:
        seen = self._peers.get(peer_id)
        if seen is None or seen.round_id > round_id:
            return found  # it has gone on since, and took with it what it did then
        newest = max(record.seq for record in self._peers.values())
        at = plan.seq if plan is not None and round_id == self.height else newest
        silent_s = max(0.0, (at - seen.seq) / 1000)
        standing: Standing = "lost" if silent_s >= self.run.pace.lease_s else _STANDINGS[seen.phase.value]
        glimpse = Glimpse(
            at=seen.seq / 1000,
            standing=standing,
            round_id=seen.round_id,
            samples=seen.samples,
            head=seen.head_digest,
            silent_s=silent_s,
        )
        return replace(found, glimpse=glimpse, watched=True)

    def _earlier(self, round_id: int) -> tuple[GlobalState, list[RoundReceipt]]:
        # The row and the one before it, whose members had to back it.
        lookout = self._lookout
        donors = [peer for peer, record in self._peers.items() if record.round_id > round_id]
        if lookout is None or not donors:
            raise PacelineError(f"nobody is there who could tell of round {round_id}", "ask a log")
        after = max(round_id - 2, 0)
        question = lookout.ask_history(self.run.run_id, donors[:_MOST_DONORS], after, round_id - after)
        links = question.result(_ANSWER_S).links
        footing = Footing(0, "", frozenset(self.run.quorum.founders))
        if after:
            first = links[0]
            links = links[1:]
            footing = footing_of(_commit_of(first.commit, after + 1))
        elif len(links) > 1:
            footing = footing_of(verified(links[0], footing, self.run)[0])
            links = links[1:]
        if not links:
            raise HistoryBroken(f"round {round_id}", "the history that was given ends before it")
        commit, receipts = verified(links[0], footing, self.run)
        return commit.state, receipts


def _commit_of(sealed: bytes, round_id: int) -> CommitRecord:
    from paceline.core.wire import unseal

    commit = unseal(sealed)
    if not isinstance(commit, CommitRecord) or commit.state.round_id != round_id:
        raise HistoryBroken(f"round {round_id}", "something else stands in its place")
    return commit


def _heard(board: Board) -> list[Record]:
    records: dict[tuple[str, str, int], Record] = {}
    until = time.monotonic() + _LISTEN_S
    while time.monotonic() < until:
        for posted in board.read(_KINDS):
            record = posted.record
            records[record.kind, record.peer_id, getattr(record, "round_id", 0)] = record
        time.sleep(_LOOK_AGAIN_S)
    return sorted(records.values(), key=lambda record: record.seq)


def _head(run: RunConfig, records: Sequence[Record], peers: Sequence[PeerRecord]) -> GlobalState | None:
    # Anybody may publish a commit: what most of those stand on who are there is the one.
    commits = {
        record.state.digest(): record.state
        for record in records
        if isinstance(record, CommitRecord) and is_well_formed(record, run)
    }
    stood = Counter(record.head_digest for record in peers if record.head_digest in commits)
    best = max(stood, key=lambda digest: (stood[digest], digest), default="")
    return commits.get(best)


def _with_commit(
    found: Evidence, state: GlobalState | None, peer_id: str, receipts: Sequence[RoundReceipt]
) -> Evidence:
    if state is None:
        return found
    mine = [receipt.samples for receipt in receipts if receipt.peer_id == peer_id and receipt.complete]
    return replace(
        found,
        members=tuple(state.participating_nodes),
        samples=tuple(state.samples),
        prev_digest=state.prev_digest,
        trained=mine[-1] if mine else None,
    )


def _voids(failed: Sequence[RoundReceipt], latest: RoundPlan | None) -> dict[int, str]:
    counted = Counter(receipt.attempt for receipt in failed)
    current = latest.attempt if latest is not None else -1
    return {
        attempt: f"{count} member{'s' if count > 1 else ''} did not get the whole average"
        for attempt, count in counted.items()
        if attempt < current
    }


_STANDINGS: dict[str, Standing] = {
    "train": "train",
    "wait": "wait",
    "reduce": "reduce",
    "attest": "attest",
    "apply": "apply",
    "repair": "repair",
    "leave": "leave",
}
