"""The run log's file format, version 1: one SQLite file, `application_id` "pace", `user_version` 1.

Tables:
    meta(key, value): `run`, the run's canonical document; `genesis`, the commit of round 0 as canonical JSON;
        `genesis_digest`, its digest.
    commits(round_id, digest, num_receipts, sealed): one row per committed round.
    receipts(round_id, position, sealed): its receipts, in the order in which they were given.
    promise(only, document, digest): at most one row; this peer's promise as JSON, and that text's SHA-256.

The sealed records are the content; every other column is redundant, and `paceline.ledger.replay` checks it
against them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from paceline.core import chain
from paceline.core.actions import Promise
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.errors import LedgerError, UnusableState
from paceline.core.records import Count, Frozen, GlobalState, RoundPlan, Vote

APPLICATION_ID, FORMAT = 0x70616365, 1
BUSY_S = 5.0
REMEDY = "the peer that it belongs to rebuilds it at its next start and keeps this file aside"
AS_NEW_PEER = "keep the folder for its key, and join with another `state_dir`, as a new peer"
_SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commits (
    round_id INTEGER PRIMARY KEY, digest TEXT NOT NULL, num_receipts INTEGER NOT NULL, sealed BLOB NOT NULL
);
CREATE TABLE receipts (
    round_id INTEGER NOT NULL REFERENCES commits, position INTEGER NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (round_id, position)
) WITHOUT ROWID;
CREATE TABLE promise (
    only INTEGER PRIMARY KEY CHECK (only = 1), document TEXT NOT NULL, digest TEXT NOT NULL
);
"""


class _StoredPromise(Frozen):
    """How `paceline.core.actions.Promise` is stored."""

    term: Count
    """No vote in an earlier term."""
    vote: Vote | None
    """The latest vote."""
    plan: RoundPlan | None
    """The plan voted for."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the system into ours.

    Args:
        path: The file to name.

    Yields:
        Nothing.

    Raises:
        LedgerError: Names the file and what went wrong.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"{path}: {error}", "check the disk and the file's permissions") from error


def says_damaged(error: sqlite3.Error) -> bool:
    """Tell damaged content from a disk, or another process, that refuses.

    Args:
        error: What SQLite raised while reading.

    Returns:
        Whether the file holds something else than what was written; also when a table is missing.
    """
    damages = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return getattr(error, "sqlite_errorcode", None) in damages


def connect(path: Path, how: str) -> sqlite3.Connection:
    """Open a connection without implicit transactions.

    Args:
        path: The file.
        how: SQLite's URI parameters, such as `mode=ro`.

    Returns:
        The connection; several threads may use it, one at a time.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def write_ahead_log(path: Path) -> Path:
    """Name the file in which SQLite keeps what is not yet in the main one.

    Args:
        path: The main file.

    Returns:
        A path that exists while the log is in use, or after a crash.
    """
    return path.with_name(f"{path.name}-wal")


def create(path: Path, run: RunConfig, genesis: GlobalState) -> None:
    """Begin a log, whole or not at all.

    Args:
        path: Where; its folder is created when missing.
        run: The run's parameters.
        genesis: The commit of round 0.

    Raises:
        LedgerError: It can't be written, or the genesis is not the run's.
    """
    if not is_genesis_of(run, genesis):
        raise LedgerError(f"{path}: the genesis is not that of run {run.run_id}")
    # SQLite would replay it into the new file.
    rest = write_ahead_log(path)
    if rest.exists() and rest.stat().st_size:
        raise LedgerError(f"{rest} is the rest of a log that is gone", "move it away")
    meta = {"run": run.document(), "genesis": spelled(genesis), "genesis_digest": genesis.digest()}
    unfinished = path.with_name(f"{path.name}.new")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with closing(connect(unfinished, "mode=rwc")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("COMMIT")
        unfinished.rename(path)
        sync_folder(path.parent)


def is_genesis_of(run: RunConfig, genesis: GlobalState) -> bool:
    """Check the beginning of a chain against the run's parameters.

    Args:
        run: The run's parameters.
        genesis: What claims to be its commit of round 0.

    Returns:
        Whether it is, whatever the first weights are.
    """
    return genesis == chain.genesis(run, genesis.weights_digest, genesis.momentum_digest)


def spelled(genesis: GlobalState) -> str:
    """Spell the genesis canonically.

    Args:
        genesis: The commit of round 0.

    Returns:
        JSON with sorted keys and no spaces.
    """
    return json.dumps(genesis.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def spelled_promise(promise: Promise) -> str:
    """Spell a promise.

    Args:
        promise: The promise.

    Returns:
        JSON, to be read with `parsed_promise`.
    """
    return _StoredPromise(term=promise.term, vote=promise.vote, plan=promise.plan).model_dump_json()


def parsed_promise(document: str) -> Promise:
    """Read a promise.

    Args:
        document: What `spelled_promise` gave.

    Returns:
        The promise.
    """
    stored = _StoredPromise.model_validate_json(document)
    return Promise(stored.term, stored.vote, stored.plan)


def read_promise(connection: sqlite3.Connection, path: Path) -> Promise:
    """Read the promise of a log's owner.

    Args:
        connection: The log.
        path: Its file, for messages.

    Returns:
        The promise; an empty one when none was ever made.

    Raises:
        UnusableState: It is damaged.
    """
    row = connection.execute("SELECT document, digest FROM promise").fetchone()
    if row is None:
        return Promise()
    document, digest = row
    if not isinstance(document, str) or sha256(document) != digest:
        raise UnusableState(f"{path}: this peer's promise is damaged", AS_NEW_PEER)
    return parsed_promise(document)


def insert(connection: sqlite3.Connection, state: GlobalState, link: Link) -> None:
    """Write one commit's rows, within a transaction of the caller's.

    Args:
        connection: The log.
        state: The commit's state, checked.
        link: The same, sealed, with its receipts.
    """
    connection.execute(
        "INSERT INTO commits VALUES (?, ?, ?, ?)",
        (state.round_id, state.digest(), len(link.receipts), link.commit),
    )
    connection.executemany(
        "INSERT INTO receipts VALUES (?, ?, ?)",
        [(state.round_id, position, sealed) for position, sealed in enumerate(link.receipts)],
    )


def sha256(text: str) -> str:
    """Digest a text.

    Args:
        text: Any text.

    Returns:
        64 lower-case hexadecimal digits.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder holds.

    Args:
        folder: The folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
