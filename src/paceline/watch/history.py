"""What a watch has seen, kept in one SQLite file (`watch/store.py`): it survives the monitor, and plays back.

with History(Path("runs/watch.sqlite"), run, parameters) as history:
    history.note(swarm.picture(now))
    print(history.picture(now - 3600.0).rounds_committed)
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pydantic import ValidationError

from paceline.core.config import RunConfig
from paceline.core.errors import LedgerError
from paceline.watch.fold import ROUNDS_WITH_SPANS
from paceline.watch.picture import Picture, RoundView, Span
from paceline.watch.source import ROUNDS_SHOWN
from paceline.watch.store import (
    REMEDY,
    locked,
    naming,
    open_for_reading,
    open_for_writing,
    packed,
    unpacked,
)

MAX_BYTES = 256 << 20
"""How large a history may grow before its older half is thinned out."""
EVERY_S = 10.0
"""A moment is kept at least so often."""
_MEASURED_EVERY = 16
_THINNED = (("moments", "at", 64), ("spans", "begin", 64), ("rounds", "round_id", 64))
"""Tables in the order in which they lose rows, by which column, and how many stay in any case."""


class History:
    """Pictures of one run over time. Several threads may use it at once; one process writes.

    Guarantees:
        What was noted is there after a kill.
        A history stays below its size.
        A history of another run is refused and left as it is.
        Of two monitors only one writes a history.

    Attributes:
        run: The run's parameters.
        parameters: Weights of its model.
    """

    def __init__(
        self, path: Path | None, run: RunConfig, parameters: int, *, max_bytes: int = MAX_BYTES
    ) -> None:
        """Open a history for writing, or begin one.

        Args:
            path: The file; it and its folder are made when missing. None keeps it in memory.
            run: The run's parameters.
            parameters: Weights of the model.
            max_bytes: How large it may grow.

        Raises:
            ConfigError: The file is of another run, of something else, or in use.
            LedgerError: It is damaged, or the disk refuses.
        """
        self.run, self.parameters = run, parameters
        self.every_s = EVERY_S
        self._path, self._max_bytes = path, max_bytes
        self._mutex = threading.RLock()
        self._lock: IO[bytes] | None = None
        self._written: dict[int, RoundView] = {}
        self._ends: dict[tuple[str, float], float] = {}
        self._shown: object = None
        self._noted_at = float("-inf")
        self._num_noted = 0
        with naming(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = locked(path)
            try:
                self._connection = open_for_writing(path, run, parameters)
            except BaseException:
                self._unlock()
                raise

    @classmethod
    def read(cls, path: Path) -> History:
        """Open a history for reading only; a monitor may be writing it.

        Args:
            path: The file.

        Returns:
            The history; `note` is not for it.

        Raises:
            ConfigError: It is no history.
            LedgerError: It is damaged.
        """
        self = cls.__new__(cls)
        self._path, self._mutex, self._lock = path, threading.RLock(), None
        with naming(path):
            self._connection = open_for_reading(path)
            meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        try:
            self.run = RunConfig.model_validate_json(meta["run"])
            self.parameters = int(meta["parameters"])
        except (KeyError, ValueError) as error:
            self._connection.close()
            raise LedgerError(f"{path}: its beginning is malformed", REMEDY) from error
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._mutex:
            self._connection.close()
            self._unlock()

    @property
    def span(self) -> tuple[float, float] | None:
        """The first and the last moment that is known; None when there is none."""
        with self._mutex, naming(self._path):
            moments = self._connection.execute("SELECT min(at), max(at) FROM moments").fetchone()
            rounds = self._connection.execute("SELECT min(committed_at) FROM rounds").fetchone()
        if moments[0] is None:
            return None
        return min(moments[0], moments[0] if rounds[0] is None else rounds[0]), moments[1]

    def note(self, picture: Picture, *, at_once: bool = False) -> None:
        """Keep a picture, as far as it shows something new.

        Args:
            picture: The picture; the history's rounds are those of all pictures.
            at_once: Whether to keep this moment in any case.

        Raises:
            LedgerError: The disk refuses. What was noted before is whole.
        """
        shown = (
            *(picture.coordinator, picture.term, picture.rounds_committed, picture.attempts_voided),
            *((p.peer_id, p.standing, p.round_id, p.is_reachable) for p in picture.peers),
        )
        committed = [view for view in picture.rounds if view.committed_at is not None]
        news = [view for view in committed if self._written.get(view.round_id) != view]
        is_due = at_once or shown != self._shown or picture.at >= self._noted_at + self.every_s
        if not news and not is_due:
            return
        with self._mutex, naming(self._path), self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?)",
                [(view.round_id, view.committed_at, packed(view.model_dump_json())) for view in news],
            )
            self._note_moment(picture, connection)
        self._written = {view.round_id: view for view in committed}
        self._shown, self._noted_at = shown, picture.at
        self._num_noted += 1
        if self._num_noted % _MEASURED_EVERY == 0:
            self._thin_out()

    def picture(self, at: float, rounds: int | None = ROUNDS_SHOWN) -> Picture | None:
        """Show a moment.

        Args:
            at: Which, in seconds since 1970.
            rounds: How many of the latest rounds, the one in progress included; None for all.

        Returns:
            The picture as it was then, or a little before; None when nothing is known yet.

        Raises:
            LedgerError: The file is damaged.
        """
        with (
            self._mutex,
            naming(self._path),
        ):  # only to fetch: whoever notes something must not wait for parsing
            found = self._connection.execute(
                "SELECT document FROM moments ORDER BY at > ?, abs(at - ?) LIMIT 1", (at, at)
            ).fetchone()
            if found is None:
                return None
            committed = self._connection.execute(
                "SELECT document, committed_at FROM rounds WHERE committed_at <= ?"
                " ORDER BY round_id DESC LIMIT ?",
                (at, -1 if rounds is None else max(rounds - 1, 0)),
            ).fetchall()[::-1]
            spans = self._spans([row[1] for row in committed], at)
        try:
            moment = Picture.model_validate_json(unpacked(found[0]))
            views = [RoundView.model_validate_json(unpacked(row[0])) for row in committed]
        except (ValidationError, zlib.error) as error:
            raise LedgerError(f"{self._path}: its content is damaged", REMEDY) from error
        return _completed(moment, views, spans, at)

    def neighbours(self) -> tuple[str, ...]:
        """Recall whom the monitor was connected with.

        Returns:
            Multiaddrs with peer ids.
        """
        with self._mutex, naming(self._path):
            row = self._connection.execute("SELECT value FROM meta WHERE key = 'neighbours'").fetchone()
        with suppress(ValueError, TypeError):
            return tuple(str(address) for address in json.loads(row[0]))
        return ()

    def keep_neighbours(self, addresses: Collection[str]) -> None:
        """Write down whom the monitor is connected with.

        Args:
            addresses: Multiaddrs with peer ids.

        Raises:
            LedgerError: The disk refuses.
        """
        with self._mutex, naming(self._path), self._transaction() as connection:
            text = json.dumps(sorted(addresses))
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('neighbours', ?)", (text,))

    def _note_moment(self, picture: Picture, connection: sqlite3.Connection) -> None:
        unfinished = tuple(view for view in picture.rounds if view.committed_at is None)
        moment = picture.model_copy(update={"rounds": unfinished, "spans": ()})
        connection.execute(
            "INSERT OR REPLACE INTO moments VALUES (?, ?)", (picture.at, packed(moment.model_dump_json()))
        )
        ends = {(span.peer_id, span.begin): span.end for span in picture.spans}
        connection.executemany(
            "INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?, ?)",
            [
                (span.peer_id, span.begin, span.end, span.round_id, span.standing)
                for span in picture.spans
                if self._ends.get((span.peer_id, span.begin)) != span.end
            ],
        )
        self._ends = ends

    def _spans(self, ends: list[float], at: float) -> list[tuple[str, int, Any, float, float]]:
        since = ends[-ROUNDS_WITH_SPANS] if len(ends) >= ROUNDS_WITH_SPANS else float("-inf")
        return self._connection.execute(
            "SELECT peer_id, round_id, standing, begin, end FROM spans WHERE end > ? AND begin <= ?"
            " ORDER BY begin, peer_id",
            (since, at),
        ).fetchall()

    def _thin_out(self) -> None:
        # The older half loses every second moment and its older spans, as often as it takes; rounds go last.
        with self._mutex, naming(self._path):
            if self._used_bytes() <= 0.9 * self._max_bytes:
                return
            for table, column, rest in _THINNED:
                while self._used_bytes() > 0.7 * self._max_bytes and _count(self._connection, table) > rest:
                    with self._transaction() as connection:
                        connection.execute(
                            f"DELETE FROM {table} WHERE {column} IN (SELECT {column} FROM (SELECT {column},"
                            f" row_number() OVER (ORDER BY {column}) AS n FROM {table} ORDER BY {column}"
                            f" LIMIT (SELECT count(*) / 2 FROM {table})) WHERE n % 2 = 0)"
                        )

    def _used_bytes(self) -> int:
        page_bytes, num_pages, num_free = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        return page_bytes * (num_pages - num_free)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _completed(
    moment: Picture, views: list[RoundView], spans: list[tuple[str, int, Any, float, float]], at: float
) -> Picture:
    height = max([moment.rounds_committed, *(view.round_id for view in views)])
    later_s = max(0.0, at - moment.at)
    return moment.model_copy(
        update={
            "at": at,
            "is_live": False,
            "peers": tuple(p.model_copy(update={"seen_s": p.seen_s + later_s}) for p in moment.peers),
            "rounds": (*views, *(view for view in moment.rounds if view.round_id == height + 1)),
            "rounds_committed": height,
            "last_commit_at": views[-1].committed_at if views else moment.last_commit_at,
            "spans": tuple(
                Span(peer_id=peer_id, round_id=round_id, standing=standing, begin=begin, end=min(end, at))
                for peer_id, round_id, standing, begin, end in spans
            ),
        }
    )
