"""The file of a history, version 1: SQLite with `application_id` "pwat" and `user_version` 1.

Tables:
    meta(key, value): `run`, the run's canonical document; `parameters`, weights of its model; `neighbours`, a
        JSON list of multiaddrs to try when no seed answers.
    rounds(round_id, committed_at, document): committed rounds, each a `RoundView`.
    spans(peer_id, begin, end, round_id, standing): who was in which phase from when to when.
    moments(at, document): the `Picture` of a moment without spans and committed rounds, whenever somebody's
        phase or the round changed, and every few seconds besides.

Times are seconds since 1970; documents are JSON, deflated.
"""

from __future__ import annotations

import fcntl
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from paceline.core.config import RunConfig
from paceline.core.errors import ConfigError, LedgerError
from paceline.ledger.file import connect, says_damaged

APPLICATION_ID, FORMAT = 0x70776174, 1
REMEDY = "move the file away, and a new history begins"
_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rounds (round_id INTEGER PRIMARY KEY, committed_at REAL NOT NULL, document BLOB NOT NULL);
CREATE TABLE spans (
    peer_id TEXT NOT NULL, begin REAL NOT NULL, end REAL NOT NULL, round_id INTEGER NOT NULL,
    standing TEXT NOT NULL, PRIMARY KEY (peer_id, begin)
) WITHOUT ROWID;
CREATE INDEX spans_by_end ON spans (end);
CREATE TABLE moments (at REAL PRIMARY KEY, document BLOB NOT NULL);
"""


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Turn the errors of SQLite and of the system into ours.

    Args:
        path: The file to name; None for memory.

    Yields:
        Nothing.

    Raises:
        LedgerError: Names the file and what went wrong.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        damaged = isinstance(error, sqlite3.Error) and says_damaged(error)
        remedy = REMEDY if damaged else "check the disk and the file's permissions"
        raise LedgerError(f"{path or 'the history'}: {error}", remedy) from error


def open_for_writing(path: Path | None, run: RunConfig, parameters: int) -> sqlite3.Connection:
    """Open a store, or make one.

    Args:
        path: The file; None for one in memory.
        run: The run that it has to be of.
        parameters: Weights of its model.

    Returns:
        The connection, without implicit transactions.

    Raises:
        ConfigError: It is of another run, or something else.
    """
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    else:
        connection = connect(path, "mode=rwc")
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.execute("PRAGMA journal_mode = WAL")
            meta = {"run": run.document(), "parameters": str(parameters)}
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = NORMAL")
        check(connection, path)
        document = connection.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
        if document != (run.document(),):
            raise ConfigError(f"{path} is the history of another run", "give this run a file of its own")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a store that a monitor may be writing.

    Args:
        path: The file.

    Returns:
        The connection.

    Raises:
        ConfigError: It is no history.
    """
    in_use = path.with_name(f"{path.name}-wal").exists()
    # Without a write-ahead log nobody writes, and nothing is made beside the file, however it is mounted.
    connection = connect(path, "mode=ro" if in_use else "mode=ro&immutable=1")
    try:
        check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, path: Path | None) -> None:
    """Make sure that a file is a history.

    Args:
        connection: The open file.
        path: Its name.

    Raises:
        ConfigError: It is not, or of another version.
    """
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise ConfigError(f"{path} is no history of paceline", "check the path, or choose another file")
    if connection.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        raise ConfigError(f"{path} is a history of another version", "choose another file")


def is_history(path: Path) -> bool:
    """Tell a history from a run log and everything else.

    Args:
        path: A file.

    Returns:
        Whether it says to be one.
    """
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(b"SQLite format 3\x00") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def locked(path: Path) -> IO[bytes]:
    """Keep other monitors from writing the same file.

    Args:
        path: The file; the lock is on another one beside it.

    Returns:
        The open lock; closing it gives it up.

    Raises:
        ConfigError: Another process has it.
    """
    lock = path.with_name(f"{path.name}.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        cause = f"another monitor writes {path}"
        raise ConfigError(cause, "stop that one, or give this one a file of its own") from error
    return lock


def packed(document: str) -> bytes:
    """Deflate a document.

    Args:
        document: JSON.

    Returns:
        Bytes for `unpacked`.
    """
    return zlib.compress(document.encode(), 1)


def unpacked(document: bytes) -> bytes:
    """Inflate a document.

    Args:
        document: What `packed` gave.

    Returns:
        JSON in UTF-8.
    """
    return zlib.decompress(document)
