"""Fetching what a joiner, or a peer that fell behind, lacks: history first, then the state that it pins.

Nothing is believed: every link is checked against the one before it, back to the run's own beginning, and
every byte of state against the digests in the last commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.errors import HistoryBroken, HistoryForked, LeftFork, TransferFailed
from paceline.core.events import DonorDropped, Emit
from paceline.core.fork import find_fork
from paceline.core.records import GlobalState, Vote
from paceline.ledger import Ledger
from paceline.network.averager import Averager
from paceline.network.transfer import (
    FetchedHistory,
    FetchOutcome,
    HistoryWant,
    StateWant,
    TransferLimits,
    fetch_history,
    fetch_state,
)
from paceline.peer.aside import Aside
from paceline.peer.shelf import Shelf

_HISTORY_TIMEOUT_S = 120.0
_MOST_COMPARED = 3


@dataclass(frozen=True)
class CaughtUp:
    """What a repair brought.

    Attributes:
        head: The last commit in the log now.
        path: The checkpoint of that commit.
        size_bytes: How much state came from others; 0 when it was on this disk already.
        donors: Who sent it.
    """

    head: GlobalState
    path: Path
    size_bytes: int
    donors: tuple[str, ...]


class CatchUp:
    """Fetches history and state from other peers."""

    def __init__(
        self, run: RunConfig, averager: Averager, shelf: Shelf, num_elements: int, aside: Aside, emit: Emit
    ) -> None:
        """Prepare.

        Args:
            run: The run's parameters.
            averager: Whose process talks to donors.
            shelf: Where states go.
            num_elements: Length of the flat vectors.
            aside: Takes what is given up when this peer turns out to be on a fork.
            emit: Told of donors that gave nothing usable.
        """
        self._run, self._averager, self._shelf, self._num_elements = run, averager, shelf, num_elements
        self._aside, self._emit = aside, emit
        self._deadline = 0.0

    def repair(
        self, ledger: Ledger, donors: tuple[str, ...], stands_on: str, heads: Mapping[str, str]
    ) -> CaughtUp:
        """Fetch all that follows the log's last commit, and the state at its end.

        Args:
            ledger: The run log; history that verifies is appended at once, so that nothing is fetched twice.
            donors: Whom to ask, best first.
            stands_on: Digest of the commit whose state this peer has in memory.
            heads: Digest of the last commit of each live peer.

        Returns:
            What came.

        Raises:
            TransferFailed: No donor had it, or what came did not match.
            HistoryForked: Ours and theirs part, and a quorum on theirs is not to be seen.
            LeftFork: Ours and theirs part, and the end of ours has been given up.
        """
        self._deadline = time.monotonic() + _HISTORY_TIMEOUT_S
        self._extend(ledger, donors)
        head = ledger.head()
        if head.digest() == stands_on:
            self._leave_fork(ledger, donors, heads)
            raise TransferFailed("whoever claims to be ahead has no history that shows it", "go on")
        if self._shelf.holds(head.round_id, head.weights_digest):
            return CaughtUp(head, self._shelf.promote(head), 0, ())
        path = self._shelf.committed(head.round_id)
        try:
            fetched = self.fetch_result(head, donors, path)
        except TransferFailed:
            self._leave_fork(ledger, donors, heads)  # nobody has the state of a branch that nobody is on
            raise
        return CaughtUp(head, path, fetched.size_bytes, tuple(fetched.donors))

    def _extend(self, ledger: Ledger, donors: tuple[str, ...]) -> None:
        for donor in donors:
            try:
                while page := self._history(ledger.head().round_id, donor):
                    for link in page:
                        ledger.append(link)
            except (HistoryBroken, TransferFailed) as error:  # the next one may tell the truth
                self._emit(DonorDropped(peer_id=donor, cause=error.cause))

    def _leave_fork(self, ledger: Ledger, donors: tuple[str, ...], heads: Mapping[str, str]) -> None:
        for donor in donors[:_MOST_COMPARED]:
            try:
                fork = find_fork(ledger.states(), self._whole_history(donor), self._run)
            except (HistoryBroken, TransferFailed):
                continue
            if fork is None:
                continue
            after_round = fork.shared.round_id
            told = f"after round {after_round} this peer's history is not that of the swarm"
            if not fork.should_leave(heads, self._run):
                raise HistoryForked(told)
            folder = self._aside.fresh("fork")
            self._shelf.set_aside(after_round, folder)
            ledger.fall_back(fork.shared, folder)
            self._aside.tell(told, folder)
            raise LeftFork(after_round)

    def _whole_history(self, donor: str) -> Iterator[Link]:
        after_round = 0
        while page := self._history(after_round, donor):
            yield from page
            after_round += len(page)

    def fetch_result(self, source: GlobalState | Vote, donors: tuple[str, ...], path: Path) -> FetchOutcome:
        """Fetch one state and make a checkpoint of it.

        Args:
            source: Names the round and pins the digests.
            donors: Whom to ask.
            path: Where the checkpoint goes.

        Returns:
            How it came.

        Raises:
            TransferFailed: No donor had it whole.
        """
        if not donors:
            raise TransferFailed(f"nobody is there who has the state of round {source.round_id}", "wait")
        raw = self._shelf.incoming(source.round_id)
        raw.parent.mkdir(parents=True, exist_ok=True)
        want = StateWant(source.round_id, self._num_elements, source.weights_digest, source.momentum_digest)
        limits = TransferLimits()
        outcome: FetchOutcome = self._averager.call(
            fetch_state,
            timeout_s=limits.total_s + limits.stall_s,
            donors=list(donors),
            prefix=self._averager.prefix,
            want=want,
            into=raw,
            limits=limits,
        )
        for donor, cause in outcome.dropped.items():
            self._emit(DonorDropped(peer_id=donor, cause=cause))
        self._shelf.take_in(raw, source, path)
        return outcome

    def _history(self, after_round: int, donor: str) -> tuple[Link, ...]:
        # One deadline for all of a repair's history: whoever hands it out in crumbs must not keep this peer
        # from its work. What has arrived is in the log, and the next repair goes on from there.
        rest_s = self._deadline - time.monotonic()
        if rest_s <= 0:
            raise TransferFailed(f"history took longer than {_HISTORY_TIMEOUT_S:.0f} s", "it is tried again")
        limits = TransferLimits(total_s=rest_s)
        found: FetchedHistory = self._averager.call(
            fetch_history,
            timeout_s=limits.total_s + limits.stall_s,
            donors=[donor],
            prefix=self._averager.prefix,
            want=HistoryWant(after_round=after_round),
            limits=limits,
        )
        return found.links
