"""A run that is over, or a node's own part of one that is not: the same pictures, at any moment of it.

    replay = Replay.open(Path("runs/demo-1a2b3c4d-20260101-120000"))
    print(replay.picture(replay.begin + 60.0).rounds_committed)

Event files and logs are folded just as records of a live swarm are. A log alone tells of rounds, and not of
what anybody did in between.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from paceline.core.config import RunConfig
from paceline.core.errors import ConfigError, LedgerError
from paceline.core.events import Event, PeerRestarting, PeerStarted, RoundCommitted
from paceline.core.records import CommitRecord, RoundReceipt
from paceline.core.wire import unseal
from paceline.ledger import LogReader
from paceline.ledger.replay import replay
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.settings import load_handout
from paceline.peer.tail import Told, parse
from paceline.watch.fold import Swarm
from paceline.watch.history import History
from paceline.watch.picture import Picture
from paceline.watch.source import ROUNDS_SHOWN
from paceline.watch.store import is_history

_MOST_MOMENTS = 2000
_FINEST_S = 0.25
_PAGE = 64


class Replay:
    """What is left of a run.

    Attributes:
        run: The run's parameters.
        begin: The first moment that is known, in seconds since 1970.
        end: The last.
        is_live: False.
    """

    is_live = False

    def __init__(self, history: History) -> None:
        """Show a history.

        Args:
            history: It is closed with this replay.

        Raises:
            ConfigError: It is empty.
        """
        self.run: RunConfig = history.run
        self._history = history
        span = history.span
        if span is None:
            raise ConfigError("nothing was seen of this run", "wait until it has begun")
        self.begin, self.end = span

    @classmethod
    def open(cls, path: Path) -> Replay:
        """Read what is left of a run.

        Args:
            path: The folder of `paceline up`, a node's state folder, a run log, or a monitor's history.

        Returns:
            The replay; close it.

        Raises:
            ConfigError: It is none of these, or empty.
            LedgerError: It is damaged.
        """
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder", "check the path")
        if path.is_file():
            return cls(History.read(path) if is_history(path) else _told([], [path], None))
        states = _state_folders(path)
        logs = [state.log for state in states if state.log.is_file()]
        handout = RunFolder(path).handout
        run = load_handout(handout).run_config if handout.is_file() else None
        events = [state.events for state in states if state.events.is_file()]
        if not logs and (run is None or not events):
            raise ConfigError(
                f"{path} holds no run log",
                "point at a run's folder, a node's state folder, a log or a history",
            )
        return cls(_told(events, logs, run))

    def picture(self, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        """Tell how the swarm stood.

        Args:
            at: When, in seconds since 1970; at the end when left out. What lies outside is moved inside.
            rounds: How many of the latest rounds to show; None for all.

        Returns:
            The picture.
        """
        at = self.end if at is None else min(max(at, self.begin), self.end)
        picture = self._history.picture(at, rounds)
        assert picture is not None  # it is not empty
        return picture

    def changed(self, after: int, timeout_s: float) -> int:
        """Wait for news that never come.

        Args:
            after: What the caller has seen; 0 at first.
            timeout_s: How long to wait, in seconds.

        Returns:
            1: there is one version.
        """
        if after >= 1:
            time.sleep(timeout_s)
        return max(after, 1)

    def close(self) -> None:
        """Let go of the file."""
        self._history.close()


class _Happened(NamedTuple):
    time: float
    peer_id: str
    event: Event
    alive_until: float


def _told(events: list[Path], logs: list[Path], run: RunConfig | None) -> History:
    with ExitStack() as stack:
        log = _best(logs) if logs else None
        links = _Links(log)
        stack.enter_context(closing(links))
        run = replay(log).run if log is not None else run
        assert run is not None
        history = History(None, run, _parameters(run))
        try:
            _fold(events, links, Swarm(run, history.parameters, is_live=False), history)
        except BaseException:
            history.close()
            raise
        return history


def _fold(events: list[Path], links: _Links, swarm: Swarm, history: History) -> None:
    extent = [t for path in events for t in _extent(path)]
    history.every_s = max(_FINEST_S, (max(extent, default=0.0) - min(extent, default=0.0)) / _MOST_MOMENTS)
    film = _Film(swarm, history)
    lives = [_lives(path, swarm.run.run_id) for path in events]
    for happened in heapq.merge(*lives, key=lambda happened: happened.time):
        film.go_on(happened.time)
        if isinstance(happened.event, RoundCommitted):
            film.append(links.until(happened.event.round_id))
        film.take(happened)
    rest = list(links.until(None))  # rounds of which no events are left
    every = max(1, len(rest) // _MOST_MOMENTS)
    for first in range(0, len(rest), every):
        film.go_on(rest[first][0].seq / 1000)
        film.append(rest[first : first + every])
    film.end()


class _Film:
    """Takes what happened in the order of time, and keeps a moment now and then."""

    def __init__(self, swarm: Swarm, history: History) -> None:
        self._swarm, self._history = swarm, history
        self._alive: dict[str, float] = {}
        self._now = self._shown_at = float("-inf")

    def go_on(self, time: float) -> None:
        """Go on to a later moment: all has been told that happened until then."""
        if self._swarm.begin is None:
            self._swarm.begin = time
        if time > self._now > self._shown_at + self._history.every_s:
            self._show(self._now)
        lost_at = self._now + self._swarm.run.pace.lease_s
        if time > lost_at > float("-inf"):  # whoever died is lost by then, though nothing tells of it
            self._show(lost_at)
        self._now = max(self._now, time)

    def take(self, happened: _Happened) -> None:
        self._alive[happened.peer_id] = happened.alive_until
        self._swarm.take_event(happened.peer_id, self._now, happened.event)

    def append(self, rows: Iterable[tuple[CommitRecord, list[RoundReceipt]]]) -> None:
        for commit, receipts in rows:
            at = self._now if self._alive else commit.seq / 1000
            self._swarm.take_link(commit, receipts, at)

    def end(self) -> None:
        if self._now > float("-inf"):
            self._show(self._now, rounds=None)

    def _show(self, now: float, rounds: int | None = 24) -> None:
        for peer_id, until in self._alive.items():
            if now <= until:
                self._swarm.here(peer_id, now)
        self._history.note(self._swarm.picture(now, rounds), at_once=True)
        self._shown_at = now


class _Links:
    """The rows of a log, each given once and in order."""

    def __init__(self, log: Path | None) -> None:
        self._reader = LogReader(log, at_rest=True) if log is not None else None
        self._given = 0

    def until(self, round_id: int | None) -> Iterator[tuple[CommitRecord, list[RoundReceipt]]]:
        while self._reader is not None and (round_id is None or self._given < round_id):
            limit = _PAGE if round_id is None else min(_PAGE, round_id - self._given)
            links = self._reader.links(self._given, limit)
            if not links:
                return
            for link in links:
                commit = unseal(link.commit)
                receipts = [unseal(sealed) for sealed in link.receipts]
                assert isinstance(commit, CommitRecord)  # the log has been verified
                self._given += 1
                yield commit, [receipt for receipt in receipts if isinstance(receipt, RoundReceipt)]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _state_folders(path: Path) -> list[StateFolder]:
    own = StateFolder(path)
    if own.log.is_file() or own.events.is_file():
        return [own]
    return [StateFolder(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]


def _best(logs: list[Path]) -> Path:
    # The longest that verifies: a peer may have died long before the end, or with a damaged disk.
    heights: dict[Path, int] = {}
    errors: list[LedgerError] = []
    for log in logs:
        try:
            heights[log] = replay(log).head.round_id
        except LedgerError as error:
            errors.append(error)
    if not heights:
        raise errors[0]
    return max(heights, key=lambda log: heights[log])


def _parameters(run: RunConfig) -> int:
    from paceline.learning.model import num_parameters  # heavy: only when it is needed

    return num_parameters(run.model)


def _lines(path: Path) -> Iterator[bytes]:
    for file in (path.with_name(f"{path.name}.1"), path):
        if file.is_file():
            with file.open("rb") as stream:
                yield from stream


def _lives(path: Path, run_id: str) -> Iterator[_Happened]:
    # Whoever is silent is alive, unless the next that is heard of it is another start. A folder may have been
    # used for another run before.
    peer_id = ""
    before: Told | None = None
    for line in _lines(path):
        told = parse(line)
        if told is None:
            continue
        if before is not None:
            is_end = isinstance(told.event, PeerStarted | PeerRestarting)
            yield _Happened(
                before.time, peer_id, before.event, _alive_until(before, None if is_end else told)
            )
        if isinstance(told.event, PeerStarted):
            peer_id = told.event.peer_id if told.event.run_id == run_id else ""
        before = told if peer_id else None
    if before is not None:
        yield _Happened(before.time, peer_id, before.event, _alive_until(before, None))


def _alive_until(told: Told, following: Told | None) -> float:
    if isinstance(told.event, PeerRestarting):
        return float("-inf")
    return told.time if following is None else following.time


def _extent(path: Path) -> list[float]:
    times = [told.time for line in _ends(path) if (told := parse(line)) is not None]
    return times[:1] + times[-1:]


def _ends(path: Path) -> list[bytes]:
    first = next(iter(_lines(path)), b"")
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 8192))
        return [first, *stream.read().splitlines()]
