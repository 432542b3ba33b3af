"""Fetching what a joiner, or a peer that fell behind, lacks: history first, then the state that it pins.

Nothing is believed: every link is checked against the one before it, back to the run's own beginning, and
every byte of state against the digests in the last commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.errors import HistoryBroken, TransferFailed
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
from paceline.peer.shelf import Shelf

_HISTORY_TIMEOUT_S = 60.0


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

    def __init__(self, run: RunConfig, averager: Averager, shelf: Shelf, num_elements: int) -> None:
        """Prepare.

        Args:
            run: The run's parameters.
            averager: Whose process talks to donors.
            shelf: Where states go.
            num_elements: Length of the flat vectors.
        """
        self._run, self._averager, self._shelf, self._num_elements = run, averager, shelf, num_elements

    def repair(self, ledger: Ledger, stands_on: int, donors: tuple[str, ...]) -> CaughtUp:
        """Fetch all that follows the log's last commit, and the state at its end.

        Args:
            ledger: The run log; history that verifies is appended at once, so that nothing is fetched twice.
            stands_on: Round of the commit whose state this peer has in memory.
            donors: Whom to ask, best first.

        Returns:
            What came.

        Raises:
            TransferFailed: No donor had it, or what came did not match.
            HistoryBroken: All that came does not follow from this peer's log: one of the two is a fork.
        """
        broken = self._extend(ledger, donors)
        head = ledger.head()
        if head.round_id <= stands_on:
            raise broken or TransferFailed("whoever claims to be ahead has no history that shows it", "go on")
        if self._shelf.holds(head.round_id, head.weights_digest):
            return CaughtUp(head, self._shelf.promote(head), 0, ())
        path = self._shelf.committed(head.round_id)
        fetched = self.fetch_result(head, donors, path)
        return CaughtUp(head, path, fetched.size_bytes, tuple(fetched.donors))

    def _extend(self, ledger: Ledger, donors: tuple[str, ...]) -> HistoryBroken | None:
        broken: HistoryBroken | None = None
        for donor in donors:
            try:
                while page := self._history(ledger.head(), donor):
                    for link in page:
                        ledger.append(link)
            except HistoryBroken as error:
                broken = error  # the next one may tell the truth
            except TransferFailed:
                continue
        return broken

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
        self._shelf.take_in(raw, source, path)
        return outcome

    def _history(self, head: GlobalState, donor: str) -> tuple[Link, ...]:
        limits = TransferLimits(total_s=_HISTORY_TIMEOUT_S)
        found: FetchedHistory = self._averager.call(
            fetch_history,
            timeout_s=limits.total_s + limits.stall_s,
            donors=[donor],
            prefix=self._averager.prefix,
            want=HistoryWant(after_round=head.round_id),
            limits=limits,
        )
        return found.links
