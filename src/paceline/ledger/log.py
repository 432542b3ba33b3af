"""The run log as a peer uses it: one writer, and readers in other processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from paceline.core import chain
from paceline.core.actions import Promise, contradiction
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.credits import credit, fold
from paceline.core.errors import ForeignLog, LedgerError, RecordRejected, UnusableState
from paceline.core.records import CommitRecord, GlobalState
from paceline.core.wire import unseal
from paceline.ledger.damage import finish, keep_aside
from paceline.ledger.file import (
    BUSY_S,
    REMEDY,
    connect,
    create,
    insert,
    naming,
    sha256,
    spelled_promise,
    write_ahead_log,
)
from paceline.ledger.replay import Replay, replay

_PAGE = 256


class Ledger:
    """This peer's run log, open for writing in one process.

    Guarantees:
        Several threads may use a ledger at once.
        A row is written whole or not at all.
        What append returned survives a kill.
        A log that does not verify is refused and left as it is.
        A promise is never taken back.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, replayed: Replay) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._run = replayed.run
        self._genesis = replayed.genesis
        self._head = replayed.head
        self._balances = replayed.balances
        self._promise = replayed.promise

    @classmethod
    def open(cls, path: Path, run: RunConfig, genesis: GlobalState) -> Ledger:
        """Open the log of a run, or begin it.

        Args:
            path: The file; it and its folder are created when missing.
            run: The run's parameters.
            genesis: The commit of round 0 (`paceline.core.chain.genesis`).

        Returns:
            The log, verified from its beginning.

        Raises:
            ForeignLog: The file belongs to another run.
            UnusableState: It is no run log, of another version, or begins with other weights.
            DamagedLog: Its content is not what was written (see `paceline.ledger.damage`).
            HistoryBroken: So it is, and the round is known.
            LedgerError: The disk refuses. In no case is the file touched.
        """
        finish(path)
        if not path.exists():
            create(path, run, genesis)
        replayed = replay(path)
        if replayed.run.digest() != run.digest():
            raise ForeignLog(str(path), replayed.run.run_id, run.run_id)
        if replayed.genesis != genesis:
            raise UnusableState(
                f"{path}: its run began with other weights than this peer makes",
                "use the versions of paceline and torch that the run began with",
            )
        return cls._writing(path, replayed)

    @classmethod
    def reopen(cls, path: Path) -> Ledger:
        """Open a log that exists, whichever run it is of.

        Args:
            path: The file.

        Returns:
            The log, verified from its beginning; `run` tells the rest.

        Raises:
            LedgerError: There is none, or as for `open`. The file is not touched.
        """
        finish(path)
        return cls._writing(path, replay(path))

    @classmethod
    def _writing(cls, path: Path, replayed: Replay) -> Ledger:
        with naming(path):
            connection = connect(path, "mode=rw")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
        ledger = cls(path, connection, replayed)
        ledger._move_into_main_file()  # what a killed process left in the write-ahead log
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put everything into the main file and close it."""
        with self._lock, naming(self._path):
            self._connection.close()

    @property
    def run(self) -> RunConfig:
        """The parameters of the run that the log belongs to."""
        return self._run

    def head(self) -> GlobalState:
        """Tell where the chain ends.

        Returns:
            The last commit, or the genesis.
        """
        return self._head

    def credits(self) -> dict[str, int]:
        """Tell what everybody contributed so far.

        Returns:
            Sequences by peer id: the fold over all commits.
        """
        return dict(self._balances)

    def append(self, link: Link) -> GlobalState:
        """Add the next commit, after checking it against the last.

        Args:
            link: The sealed commit and receipts.

        Returns:
            The commit's state, now the head.

        Raises:
            HistoryBroken: It does not follow, or nothing backs it. Nothing is written.
            LedgerError: It could not be written (a full disk, say). The log is as it was.
        """
        with self._lock:
            state = chain.check_link(link, self._head, self._run).state
            with self._transaction() as connection:
                insert(connection, state, link)
            self._head, self._balances = state, credit(self._balances, state)
            self._move_into_main_file()
            return state

    def fall_back(self, shared: GlobalState, aside: Path) -> None:
        """Give up the end of this history, to go on with another that shares its beginning.

        The promise goes, too: it was made to those of the branch that is left. In the round after `shared`,
        where it would still bind, the other history is decided already.

        Args:
            shared: The commit to go back to: one of this log's.
            aside: Folder that gets a copy of the whole log first; it is made.

        Raises:
            LedgerError: It could not be copied or written. The log is as it was.
        """
        with self._lock:
            kept = [state for state in self.states() if state.round_id <= shared.round_id]
            if kept[-1] != shared:
                raise LedgerError(f"{self._path}: its round {shared.round_id} is another commit", REMEDY)
            with naming(self._path):
                keep_aside(self._path, aside)
            with self._transaction() as connection:
                for table in ("receipts", "commits"):
                    connection.execute(f"DELETE FROM {table} WHERE round_id > ?", (shared.round_id,))
                connection.execute("DELETE FROM promise")
            self._promise = Promise()
            self._head, self._balances = shared, fold(kept[1:])
            self._move_into_main_file()

    def links(self, after_round: int, limit: int) -> list[Link]:
        """Read rows of history as they were sealed.

        Args:
            after_round: The rows begin after this round.
            limit: At most so many rows, and never more than 256.

        Returns:
            Rows in order; empty at the end of the log.

        Raises:
            LedgerError: The file can't be read.
        """
        with self._lock, naming(self._path):
            return _read_links(self._connection, after_round, limit)

    def states(self) -> Iterator[GlobalState]:
        """Read the chain from its beginning.

        Yields:
            The genesis, then every commit in order.
        """
        yield self._genesis
        after_round = 0
        while links := self.links(after_round, _PAGE):
            for link in links:
                yield _state_of(link)
            after_round += len(links)

    def remember(self, promise: Promise) -> None:
        """Make a promise durable; call it before the promise is published.

        Args:
            promise: The term in which this peer may vote, and its latest vote, if it has voted in the round
                after the head, with the plan voted for.

        Raises:
            LedgerError: It contradicts what this peer has promised before, or can't be written.
        """
        document = spelled_promise(promise)
        with self._lock:
            if broken := contradiction(self._promise, promise, self._head.round_id):
                raise LedgerError(f"{self._path}: {broken}", "start the peer again")
            with self._transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO promise VALUES (1, ?, ?)", (document, sha256(document))
                )
            self._promise = promise

    def promised(self) -> Promise:
        """Recall the last promise, also after a restart.

        Returns:
            What was last given to `remember`; an empty promise in a new log.
        """
        return self._promise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with naming(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _move_into_main_file(self) -> None:
        # Whoever copies or inspects the one file after a crash then has every row. A reader may hold this up:
        # then the row stays in the write-ahead log until the next time.
        with naming(self._path):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")


class LogReader:
    """Reads the log that another process writes, such as to serve joiners.

    Nothing is opened before the first call, so that an object made before a fork may be used after it; an
    open SQLite connection must never cross one.
    """

    def __init__(self, path: Path, *, at_rest: bool = False) -> None:
        """Note the file.

        Args:
            path: The log.
            at_rest: Whether nobody may be writing it: then nothing is made beside it, however it is mounted.
        """
        in_use = not at_rest or write_ahead_log(path).exists()
        self._path, self._how = path, "mode=ro" if in_use else "mode=ro&immutable=1"
        self._connection: sqlite3.Connection | None = None

    def links(self, after_round: int, limit: int) -> list[Link]:
        """Read rows of history as they were sealed.

        Args:
            after_round: The rows begin after this round; any number, it may come from a stranger.
            limit: At most so many rows, and never more than 256.

        Returns:
            Rows in order; empty at the end of the log.

        Raises:
            LedgerError: The file is not there or can't be read.
        """
        with naming(self._path):
            if self._connection is None:
                self._connection = connect(self._path, self._how)
            return _read_links(self._connection, after_round, limit)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read_links(connection: sqlite3.Connection, after_round: int, limit: int) -> list[Link]:
    # Bounded first: a negative limit means "all" to SQLite, and larger integers than its own are an error.
    after_round, limit = min(max(after_round, 0), 2**48), min(max(limit, 0), _PAGE)
    commits = connection.execute(
        "SELECT round_id, sealed FROM commits WHERE round_id > ? ORDER BY round_id LIMIT ?",
        (after_round, limit),
    ).fetchall()
    query = "SELECT sealed FROM receipts WHERE round_id = ? ORDER BY position"
    return [
        Link(sealed, tuple(row[0] for row in connection.execute(query, (round_id,)).fetchall()))
        for round_id, sealed in commits
    ]


def _state_of(link: Link) -> GlobalState:
    try:
        commit = unseal(link.commit)
    except RecordRejected as error:
        raise LedgerError(f"a stored commit is damaged ({error.cause})", REMEDY) from error
    if not isinstance(commit, CommitRecord):
        raise LedgerError(f"a {commit.kind} record is stored as a commit", REMEDY)
    return commit.state
