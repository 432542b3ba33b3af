"""Fetching what a joiner, or a peer that fell behind, lacks: history first, then the state that it pins.

Nothing is believed: every link is checked against the one before it, back to the run's own beginning, and
every byte of state against the digests in the last commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paceline.core import chain
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.errors import TransferFailed
from paceline.core.records import GlobalState, Vote
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
        links: The links that were missing, all checked.
        head: The last commit among them, or the one asked from when only its state was missing.
        path: The checkpoint of that commit.
        fetched: How the state came.
    """

    links: tuple[Link, ...]
    head: GlobalState
    path: Path
    fetched: FetchOutcome


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

    def repair(self, head: GlobalState, donors: tuple[str, ...]) -> CaughtUp:
        """Fetch all that follows a commit, and the state at its end. Changes nothing but files of its own.

        Args:
            head: The last commit in this peer's log.
            donors: Whom to ask, best first.

        Returns:
            What came.

        Raises:
            TransferFailed: No donor had it, or what came did not match.
            LedgerError: The history does not follow from `head`.
        """
        links: list[Link] = []
        while page := self._history(head, donors):
            for link in page:
                head = chain.check_link(link, head, self._run).state
            links.extend(page)
        path = self._shelf.committed(head.round_id)
        fetched = self.fetch_result(head, donors, path)
        return CaughtUp(tuple(links), head, path, fetched)

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

    def _history(self, head: GlobalState, donors: tuple[str, ...]) -> tuple[Link, ...]:
        found: FetchedHistory = self._averager.call(
            fetch_history,
            timeout_s=_HISTORY_TIMEOUT_S,
            donors=list(donors),
            prefix=self._averager.prefix,
            want=HistoryWant(after_round=head.round_id),
            limits=TransferLimits(total_s=_HISTORY_TIMEOUT_S),
        )
        return found.links
