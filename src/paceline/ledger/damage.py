"""Rebuilding a damaged log from what still verifies. The damaged one is kept, and the promise never given up.

A peer whose promise is lost can't be helped: it may have voted for a result, and would now contradict itself.
Whatever else is lost comes back from the other peers.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from paceline.core import chain
from paceline.core.actions import Promise
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.errors import HistoryBroken, UnusableState
from paceline.core.records import GlobalState
from paceline.ledger.file import (
    AS_NEW_PEER,
    connect,
    create,
    insert,
    naming,
    read_promise,
    says_damaged,
    sha256,
    spelled_promise,
    sync_folder,
    write_ahead_log,
)
from paceline.ledger.replay import replay


def salvage(path: Path, run: RunConfig, genesis: GlobalState, aside: Path) -> GlobalState:
    """Replace a damaged log by one with all rounds that verify, and with its promise.

    It is safe to be killed at any moment: the log is then either as it was, or as it will be.

    Args:
        path: The damaged log. Nobody else has it open.
        run: The run's parameters.
        genesis: The commit of round 0.
        aside: Folder that gets a copy of the damaged file as it is; it is made.

    Returns:
        The last commit that could be kept.

    Raises:
        UnusableState: It is not the log of this run, or too damaged to tell what this peer has promised. The
            log is as it was, and there is no copy.
        LedgerError: The disk refuses. The log is as it was.
    """
    rebuilt = path.with_name(f"{path.name}.rebuilding")
    try:
        with naming(path):
            copy = keep_aside(path, aside)
            _clear(rebuilt)  # what a salvage that was killed has left
            create(rebuilt, run, genesis)
            with tempfile.TemporaryDirectory(dir=aside) as scratch:
                # SQLite writes into what it opens: the copy stays as it is.
                damaged = keep_aside(copy, Path(scratch))
                head = _rebuild(path, damaged, rebuilt, run, genesis)
            replay(rebuilt)  # nothing takes the place of a log before it is seen to be whole
            rebuilt.replace(_finished(path))
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            _clear(rebuilt)
        shutil.rmtree(aside, ignore_errors=True)  # the log is as it was, and needs no copy
        raise
    finish(path)
    return head


def _clear(rebuilt: Path) -> None:
    for rest in rebuilt.parent.glob(f"{rebuilt.name}*"):
        rest.unlink()


def _rebuild(path: Path, damaged: Path, rebuilt: Path, run: RunConfig, genesis: GlobalState) -> GlobalState:
    head = genesis
    with (
        naming(path),
        closing(connect(damaged, "mode=rw")) as old,
        closing(connect(rebuilt, "mode=rw")) as new,
    ):
        promise = spelled_promise(_promise_of(old, path, run))
        # Not into a write-ahead log: the main file has to be whole on its own, or this has to fail.
        new.execute("PRAGMA journal_mode = DELETE")
        new.execute("PRAGMA synchronous = FULL")
        new.execute("BEGIN IMMEDIATE")
        for link, state in _verified(old, run, genesis):
            insert(new, state, link)
            head = state
        new.execute("INSERT INTO promise VALUES (1, ?, ?)", (promise, sha256(promise)))
        new.execute("COMMIT")
    return head


def _promise_of(old: sqlite3.Connection, path: Path, run: RunConfig) -> Promise:
    try:
        if _document(old) != run.document():
            raise UnusableState(f"{path}: too damaged to tell which run it belongs to", AS_NEW_PEER)
        return read_promise(old, path)
    except (sqlite3.Error, ValueError) as error:
        if isinstance(error, sqlite3.Error) and not says_damaged(error):
            raise  # the disk refuses
        cause = f"{path}: too damaged to tell what this peer promised ({error})"
        raise UnusableState(cause, AS_NEW_PEER) from error


def finish(path: Path) -> None:
    """Put a rebuilt log in its place, should that have been interrupted.

    Args:
        path: The log.

    Raises:
        LedgerError: The disk refuses.
    """
    if not _finished(path).exists():
        return
    with naming(path):
        # The old write-ahead log goes first: SQLite would replay it into the new file.
        write_ahead_log(path).unlink(missing_ok=True)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        _finished(path).replace(path)
        sync_folder(path.parent)


def keep_aside(path: Path, aside: Path) -> Path:
    """Copy a log as it is, with what SQLite has not yet moved into the main file.

    Args:
        path: The log.
        aside: Folder for the copy; it is made.

    Returns:
        The copy.
    """
    aside.mkdir(parents=True, exist_ok=True)
    for source in (path, write_ahead_log(path)):
        if source.exists():
            target = aside / source.name
            shutil.copyfile(source, target)
            with target.open("rb") as copied:
                os.fsync(copied.fileno())
    sync_folder(aside)
    return aside / path.name


def _finished(path: Path) -> Path:
    return path.with_name(f"{path.name}.rebuilt")


def _document(damaged: sqlite3.Connection) -> object:
    row = damaged.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
    return row[0] if row else None


def _verified(
    damaged: sqlite3.Connection, run: RunConfig, genesis: GlobalState
) -> Iterator[tuple[Link, GlobalState]]:
    # As many rounds from the beginning as can be read and verify.
    head = genesis
    with suppress(sqlite3.Error, HistoryBroken, TypeError):
        for round_id, sealed in damaged.execute("SELECT round_id, sealed FROM commits ORDER BY round_id"):
            query = "SELECT sealed FROM receipts WHERE round_id = ? ORDER BY position"
            receipts = tuple(row[0] for row in damaged.execute(query, (round_id,)))
            link = Link(bytes(sealed), tuple(bytes(receipt) for receipt in receipts))
            head = chain.check_link(link, head, run).state
            yield link, head
