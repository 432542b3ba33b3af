"""Where evidence comes from when somebody asks why a peer got no credit: files, a history, or a live swarm.

    with open_inquiry(Path("runs/demo-1a2b3c4d-20260101-120000")) as inquiry:
        evidence = inquiry.evidence(peer_id, 7)

Each source tells what it knows: a log alone who took part; event files what a peer did and whom it blamed;
the history of a monitor what was seen of everybody; a live swarm's board the last round and the present one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from paceline.core.config import RunConfig
from paceline.core.errors import LedgerError
from paceline.core.records import CommitRecord, GlobalState, RoundReceipt
from paceline.core.wire import unseal
from paceline.ledger import LogReader
from paceline.ledger.replay import Replay as ReplayedLog
from paceline.ledger.replay import replay
from paceline.watch.evidence import Blame, Evidence, Glimpse
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.watch.replay import Replay
from paceline.watch.tale import Tale

_MOMENT_S = 0.001


class Inquiry(Protocol):
    """Something that can be asked about rounds and peers."""

    @property
    def run(self) -> RunConfig:
        """The run's parameters."""

    @property
    def height(self) -> int:
        """The last committed round."""

    @property
    def known(self) -> frozenset[str]:
        """Everybody that was ever heard of."""

    def evidence(self, peer_id: str, round_id: int) -> Evidence:
        """Gather what is known of one peer in one round.

        Args:
            peer_id: Who.
            round_id: In which round; any number.

        Returns:
            What is known.
        """


class LogInquiry:
    """Asks run logs, and the event files beside them, if there are any.

    Attributes:
        run: The run's parameters.
        height: The last committed round.
        known: Everybody that was ever heard of.
    """

    def __init__(self, logs: list[Path], events: list[Path]) -> None:
        """Replay the logs, and look who speaks in the event files.

        Args:
            logs: At least one; the longest that verifies counts.
            events: Event files of peers of the same run.

        Raises:
            LedgerError: No log verifies.
        """
        self._log, replayed = _longest(logs)
        self.run, self.height = replayed.run, replayed.head.round_id
        self._tales = [Tale(path) for path in events]
        told = {peer for tale in self._tales for peer in tale.peers()}
        self.known = frozenset({*replayed.balances, *replayed.run.quorum.founders, *told})

    def evidence(self, peer_id: str, round_id: int) -> Evidence:
        """Gather what is known of one peer in one round.

        Args:
            peer_id: Who.
            round_id: In which round; any number.

        Returns:
            What is known.
        """
        state, receipts = _row(self._log, round_id) if 1 <= round_id <= self.height else (None, [])
        found = _of_commit(Evidence(self.run, self.height, self.known), state)
        trained = [receipt.samples for receipt in receipts if receipt.peer_id == peer_id]
        found = replace(found, trained=trained[0] if trained else None)
        tales = [tale.of_round(round_id, self.run.model.seq_len) for tale in self._tales]
        for told in tales:
            found = told.added_to(found)
        planned_at = min((told.planned_at(state) for told in tales), default=float("inf"))
        for told in tales:
            if told.peer_id == peer_id:
                found = told.seen_by_itself(found, planned_at)
        return found


class HistoryInquiry:
    """Asks the history of a monitor.

    Attributes:
        run: The run's parameters.
        height: The last committed round.
        known: Everybody that was ever heard of.
    """

    def __init__(self, source: Replay) -> None:
        """Look at its end.

        Args:
            source: The history; it stays the caller's.
        """
        self.run, self._source = source.run, source
        self._last = source.picture(rounds=None)
        self.height = self._last.rounds_committed
        self._rounds = {view.round_id: view for view in self._last.rounds}
        members = {peer for view in self._last.rounds for peer in view.members}
        self.known = frozenset({peer.peer_id for peer in self._last.peers} | members)

    def evidence(self, peer_id: str, round_id: int) -> Evidence:
        """Gather what is known of one peer in one round.

        Args:
            peer_id: Who.
            round_id: In which round; any number.

        Returns:
            What is known.
        """
        found = Evidence(self.run, self.height, self.known)
        view = self._rounds.get(round_id)
        if view is None:
            return found
        found = _of_view(found, view)
        if view.committed_at is None:
            return replace(found, glimpse=_glimpse(self._last, peer_id), watched=True)
        if view.committed_at < self._source.begin:
            return found
        end = self._source.picture(view.committed_at)
        began = [span.begin for span in end.spans if (span.round_id, span.standing) == (round_id, "reduce")]
        planned_at = min([*began, view.committed_at]) - _MOMENT_S
        seen = _glimpse(self._source.picture(planned_at), peer_id)
        later = _glimpse(end, peer_id)
        if seen and later and seen.round_id == later.round_id == round_id:
            # Moments are kept seldom; what a peer had trained is told by the later one.
            seen = replace(seen, samples=max(seen.samples, later.samples))
        return replace(found, glimpse=seen, watched=planned_at >= self._source.begin)


@contextmanager
def open_inquiry(path: Path, logs: list[Path], events: list[Path]) -> Iterator[Inquiry]:
    """Ask what lies on this disk.

    Args:
        path: A monitor's history, or anything when there are logs.
        logs: Run logs, if `path` is none.
        events: Event files beside them.

    Yields:
        Whom to ask.

    Raises:
        ConfigError: The history is empty, or none.
        LedgerError: It is damaged, or no log verifies.
    """
    if logs:
        yield LogInquiry(logs, events)
        return
    with closing(Replay.open(path)) as source:
        yield HistoryInquiry(source)


def _longest(logs: list[Path]) -> tuple[Path, ReplayedLog]:
    # A peer may have died long before the end, or with a damaged disk.
    replayed: dict[Path, ReplayedLog] = {}
    errors: list[LedgerError] = []
    for log in logs:
        try:
            replayed[log] = replay(log)
        except LedgerError as error:
            errors.append(error)
    if not replayed:
        raise errors[0]
    longest = max(replayed, key=lambda log: replayed[log].head.round_id)
    return longest, replayed[longest]


def _row(log: Path, round_id: int) -> tuple[GlobalState | None, list[RoundReceipt]]:
    with closing(LogReader(log, at_rest=True)) as reader:
        links = reader.links(round_id - 1, 1)
    commit = unseal(links[0].commit)
    receipts = [unseal(sealed) for sealed in links[0].receipts]
    assert isinstance(commit, CommitRecord)  # the log has been verified
    return commit.state, [receipt for receipt in receipts if isinstance(receipt, RoundReceipt)]


def _of_commit(found: Evidence, state: GlobalState | None) -> Evidence:
    if state is None:
        return found
    return replace(
        found,
        members=tuple(state.participating_nodes),
        samples=tuple(state.samples),
        prev_digest=state.prev_digest,
    )


def _of_view(found: Evidence, view: RoundView) -> Evidence:
    is_over = view.committed_at is not None
    return replace(
        found,
        members=view.members if is_over else (),
        samples=view.samples if is_over else (),
        planned=() if is_over else view.members,
        prev_digest=view.prev_digest,
        voids={void.attempt: void.cause for void in view.voids},
        blames=tuple(Blame("", void.attempt, "", peer) for void in view.voids for peer in void.blamed),
    )


def _glimpse(picture: Picture, peer_id: str) -> Glimpse | None:
    seen: PeerView | None = next((peer for peer in picture.peers if peer.peer_id == peer_id), None)
    if seen is None:
        return None
    return Glimpse(picture.at, seen.standing, seen.round_id, seen.samples, silent_s=seen.seen_s)
