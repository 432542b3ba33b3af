"""A live swarm, seen by a peer that never trains: a client of its DHT that reads the board once a second.

    with Watcher(handout, Path("runs/watch.sqlite")) as watcher:
        version = 0
        while True:
            version = watcher.changed(version, timeout_s=5.0)
            print(watcher.picture().rounds_committed)

The board holds what was said last. What was committed before, or while nobody watched, is fetched from the
peers' logs, a page at a time, and checked like any other history.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import LedgerError, PacelineError, ProcessDied
from paceline.learning.model import num_parameters
from paceline.watch.fold import Swarm
from paceline.watch.history import MAX_BYTES, History
from paceline.watch.past import Past
from paceline.watch.picture import Picture
from paceline.watch.proof import Prover
from paceline.watch.sighting import SILENT_S, Sighting
from paceline.watch.source import ROUNDS_SHOWN
from paceline.watch.store import is_history

POLL_S = 1.0
"""How often the board is read."""
_KINDS, _SELDOM, _SELDOM_S = ("peer", "plan", "receipt", "commit"), ("metrics", "credits"), 3.0
_PROVE_EVERY_S = 2.0
_NEIGHBOURS_EVERY_S = 60.0
_NOTED_ROUNDS = 24
_IN_MEMORY_BYTES = 64 << 20
_CLOCK_SET_S = 2.0
_GREET_AGAIN_S = 30.0
_FIRST_LOOK_S = 15.0
_MOST_NEIGHBOURS = 32


class Watcher:
    """Watches a swarm from a thread of its own while it is entered.

    Enter it in the main thread, before there are other threads: it forks the network's process.

    Guarantees:
        What was seen before a restart is shown after it.
        A watch whose network died starts it again, and takes nobody for lost meanwhile.

    Attributes:
        is_live: True.
        trouble: What is wrong with the watch itself, in one sentence; empty when nothing is.
    """

    is_live = True

    def __init__(self, target: Handout | str, history: Path | None = None) -> None:
        """Note what to watch; nothing is opened yet.

        Args:
            target: The run's hand-out, or the multiaddr of any of its peers.
            history: File that keeps what is seen; in memory, and for this one watch, when left out.
        """
        self.trouble = ""
        self._history_path = history
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._version = 0
        self._error: PacelineError | None = None
        self._sighting = Sighting(target)
        self._swarm: Swarm
        self._history: History
        self._prover: Prover
        self._past: Past
        self._threads: list[threading.Thread] = []
        self._began = time.time()

    def __enter__(self) -> Self:
        """Connect, and begin to watch.

        Returns:
            This watcher, after its first look at the board.

        Raises:
            JoinError: The swarm could not be reached, or trains another run.
            ConfigError: The history is of another run, or in use.
            LedgerError: The history is damaged.
        """
        with ExitStack() as stack:
            self._sighting.open(self._known_neighbours())
            self._sighting.read_at = time.time()
            stack.callback(self._sighting.close)
            parameters = num_parameters(self.run.model)
            kept_bytes = _IN_MEMORY_BYTES if self._history_path is None else MAX_BYTES
            history = History(self._history_path, self.run, parameters, max_bytes=kept_bytes)
            self._history = stack.enter_context(history)
            self._swarm = Swarm(self.run, parameters)
            self._recall()
            self._prover, self._past = Prover(self.run.run_id), Past(self._sighting.lookout, self.run)
            stack.callback(self._stop)
            self._begin(("watch", self._watch), ("proofs", self._prove))
            self.changed(0, _FIRST_LOOK_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def run(self) -> RunConfig:
        """The run's parameters."""
        return self._sighting.run

    @property
    def begin(self) -> float:
        """The first moment that is known, in seconds since 1970."""
        span = self._history.span
        return span[0] if span is not None else self._began

    @property
    def end(self) -> float:
        """Now, in seconds since 1970."""
        return time.time()

    def picture(self, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        """Tell how the swarm stands, or stood.

        Args:
            at: The moment, in seconds since 1970; now when left out.
            rounds: How many of the latest rounds to show, the one in progress included; None for all.

        Returns:
            The picture.

        Raises:
            PacelineError: The watch has ended.
        """
        self._raise_error()
        if at is not None and at < time.time() - POLL_S:
            kept = self._history.picture(max(at, self.begin), rounds)
            if kept is not None:
                return kept
        with self._lock:
            return self._present(rounds)

    def _present(self, rounds: int | None) -> Picture:
        # Of a time in which it saw nothing, a watch shows nothing but what it saw before.
        now = time.time()
        blind_since = self._sighting.blind_since(now, self.run.pace.lease_s)
        picture = self._swarm.picture(now if blind_since is None else blind_since, rounds)
        return picture.model_copy(update={"blind_since": blind_since})

    def changed(self, after: int, timeout_s: float) -> int:
        """Wait for news.

        Args:
            after: The version that the caller has seen; 0 at first.
            timeout_s: How long to wait at most, in seconds.

        Returns:
            The present version: larger than `after` when there is news, else `after`.

        Raises:
            PacelineError: The watch has ended.
        """
        with self._news:
            self._news.wait_for(lambda: self._version > after or self._error, timeout_s)
            self._raise_error()
            return max(self._version, after)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _known_neighbours(self) -> Sequence[str]:
        # Whoever was connected before the restart knows the way, should all seeds be gone.
        path = self._history_path
        if path is None or not path.is_file() or not is_history(path):
            return ()
        with suppress(PacelineError), History.read(path) as history:
            return history.neighbours()
        return ()

    def _recall(self) -> None:
        self._began = self._swarm.begin = time.time()
        if (span := self._history.span) is not None:
            last = self._history.picture(span[1], None)
            assert last is not None  # it is not empty
            self._swarm.begin = span[0]
            self._swarm.recall(last)

    def _begin(self, *works: tuple[str, Callable[[], None]]) -> None:
        for name, work in works:
            thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=30.0)
        with suppress(LedgerError), self._lock:
            self._history.note(self._present(_NOTED_ROUNDS), at_once=True)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            ours = (
                error if isinstance(error, PacelineError) else PacelineError(f"the watch failed: {error!r}")
            )
            with self._news:
                self._error = self._error or ours
                self._news.notify_all()

    def _watch(self) -> None:
        neighbours_at = measured_at = float("-inf")
        clock_ahead_s: float | None = None
        seen_at = time.monotonic()
        while not self._stopping.is_set():
            is_due = time.monotonic() >= measured_at + _SELDOM_S
            measured_at = time.monotonic() if is_due else measured_at
            try:
                posted = self._sighting.look(_KINDS + _SELDOM if is_due else _KINDS)
            except ProcessDied as error:
                self._start_network_again(error)
                continue
            now, mono = time.time(), time.monotonic()
            rows = self._past.arrived(mono)
            with self._news:
                if self._sighting.has_seen:
                    self._unseen(mono - seen_at)
                    seen_at, self._sighting.read_at = mono, now
                if clock_ahead_s is not None and abs(now - mono - clock_ahead_s) > _CLOCK_SET_S:
                    self._swarm.crowd.stood_still(now - mono - clock_ahead_s)
                clock_ahead_s = now - mono
                for news in posted:
                    self._swarm.take(news.record, now)
                for commit, receipts in rows:
                    self._swarm.take_link(commit, receipts)
                picture = self._swarm.picture(now, max(_NOTED_ROUNDS, 2 * len(rows)))
                self._past.want(*self._swarm.missing(now), mono)
            self._note(picture)
            with self._news:
                self._version += 1
                self._news.notify_all()
            if mono >= neighbours_at + _NEIGHBOURS_EVERY_S:
                neighbours_at = mono
                self._note_neighbours()
            self._stopping.wait(POLL_S)

    def _start_network_again(self, error: ProcessDied) -> None:
        wait_s = self._sighting.lose(error)
        self._tell(f"{error.cause}: the monitor sees nothing, and starts it again in {wait_s:.0f} s")
        while not self._stopping.wait(0.2):
            if self._sighting.regain(self._history.neighbours(), time.monotonic()):
                self._past = Past(self._sighting.lookout, self.run)
                self._tell("")
                return
            self._tell(f"{self._sighting.cause}: the monitor sees nothing, and tries again")

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            with self._news:
                self.trouble = trouble
                self._version += 1
                self._news.notify_all()

    def _unseen(self, seconds: float) -> None:
        # Nobody's silence counts of the time in which it could not be heard: the network died,
        # say, or this process was stopped.
        if seconds > min(SILENT_S, self.run.pace.lease_s):
            self._swarm.crowd.stood_still(seconds - POLL_S)

    def _note(self, picture: Picture) -> None:
        try:
            self._history.note(picture)
        except LedgerError as error:  # a full disk must not end the watch
            self._tell(f"the history can't be written: {error}")
        else:
            self._tell("")

    def _note_neighbours(self) -> None:
        addresses = self._sighting.lookout.dht.neighbours()
        if addresses:
            with suppress(LedgerError):  # as above
                self._history.keep_neighbours(addresses[:_MOST_NEIGHBOURS])

    def _prove(self) -> None:
        greeted_at: dict[str, float] = {}
        while not self._stopping.wait(_PROVE_EVERY_S):
            with self._lock:
                announced = self._swarm.announced(time.time())
            if self._sighting.cause:
                continue
            lookout = self._sighting.lookout
            hosts, now = lookout.hosts(), time.monotonic()
            greeted_at = {peer: at for peer, at in greeted_at.items() if now < at + _GREET_AGAIN_S}
            strangers = announced.keys() - hosts.keys() - greeted_at.keys()
            if strangers:
                greeted_at |= dict.fromkeys(strangers, now)
                with suppress(ProcessDied):  # the other thread notices, and starts it again
                    lookout.greet(strangers)
            places = self._prover.due(announced, hosts, now)
            if places:
                self._prover.ask(announced, places)
            verdicts = {peer: self._prover.is_reachable(peer, at) for peer, at in announced.items()}
            with self._lock:
                self._swarm.judge(announced, verdicts)
