"""Replaying a run log: the check behind `paceline verify`, and behind every opening of a log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from paceline.core import chain
from paceline.core.actions import Promise
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.credits import credit
from paceline.core.errors import DamagedLog, HistoryBroken, LedgerError, UnusableState
from paceline.core.records import CommitRecord, Frozen, GlobalState
from paceline.ledger.file import (
    APPLICATION_ID,
    FORMAT,
    REMEDY,
    connect,
    is_genesis_of,
    read_promise,
    says_damaged,
    spelled,
    write_ahead_log,
)


class VerifiedLog(Frozen):
    """What a log says, once all of it has been checked."""

    run_id: str
    """The run."""
    rounds: int
    """Committed rounds."""
    head_digest: str
    """Digest of the last commit; that of the genesis when there is none."""
    credits: dict[str, int]
    """Sequences that each peer contributed to committed rounds."""


@dataclass(frozen=True)
class Replay:
    """What replaying a whole log gives.

    Attributes:
        run: The run's parameters.
        genesis: The commit of round 0.
        head: The last commit.
        balances: Credits by peer id.
        promise: What the log's owner has promised.
    """

    run: RunConfig
    genesis: GlobalState
    head: GlobalState
    balances: dict[str, int]
    promise: Promise


def verify(path: Path) -> VerifiedLog:
    """Replay a log from its own beginning and check every byte that it stores; it may be in use.

    Args:
        path: The file. It is opened for reading only.

    Returns:
        What it says.

    Raises:
        HistoryBroken: Names the file, the round and the first thing that is wrong.
        LedgerError: It is no run log, or its file is damaged.
    """
    found = replay(path)
    return VerifiedLog(
        run_id=found.run.run_id,
        rounds=found.head.round_id,
        head_digest=found.head.digest(),
        credits=found.balances,
    )


def replay(path: Path, each: Callable[[GlobalState], None] = lambda state: None) -> Replay:
    """Check every byte that a log stores, without touching it.

    Args:
        path: The file.
        each: Called with the genesis and every commit, in order and each already checked; once more from the
            genesis on, should reading have to start over.

    Returns:
        What it says.

    Raises:
        HistoryBroken: Names the file, the round and the first thing that is wrong.
        LedgerError: It is no run log, or its file is damaged.
    """
    if not path.is_file():
        raise LedgerError(f"{path}: there is no such log", "check the path")
    in_use = write_ahead_log(path).exists()
    try:
        # Without a write-ahead log nobody writes. SQLite would create one even to read; `immutable` keeps it
        # from touching the folder.
        return _replay_as(path, "mode=ro" if in_use else "mode=ro&immutable=1", each)
    except LedgerError:
        if not in_use and write_ahead_log(path).exists():  # a peer opened it in between
            return _replay_as(path, "mode=ro", each)
        raise


def _replay_as(path: Path, how: str, each: Callable[[GlobalState], None]) -> Replay:
    try:
        with closing(connect(path, how)) as connection:
            connection.execute("BEGIN")  # one view of the file, whatever is appended meanwhile
            _check_file(connection, path)
            run, genesis = _read_meta(connection, path)
            head, balances = genesis, dict[str, int]()
            each(genesis)
            for commit in _checked_commits(connection, run, genesis):
                head, balances = commit.state, credit(balances, commit.state)
                each(head)
            return Replay(run, genesis, head, balances, read_promise(connection, path))
    except HistoryBroken as error:
        raise HistoryBroken(f"{path}, {error.where}", error.what) from error
    except sqlite3.Error as error:
        if says_damaged(error):
            raise DamagedLog(f"{path}: not a readable run log ({error})", REMEDY) from error
        raise LedgerError(f"{path}: {error}", "check the disk and the file's permissions") from error
    except OSError as error:
        raise LedgerError(f"{path}: {error}", "check the disk and the file's permissions") from error


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise UnusableState(f"{path} is not a run log of paceline", "check the path")
    if connection.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        raise UnusableState(f"{path} is a run log of another version", "use the version that wrote it")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()
    if damage != ("ok",):
        raise DamagedLog(f"{path}: the file is damaged ({damage[0]})", REMEDY)
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise DamagedLog(f"{path}: it holds receipts of a round that it does not hold", REMEDY)


def _read_meta(connection: sqlite3.Connection, path: Path) -> tuple[RunConfig, GlobalState]:
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if set(meta) != {"run", "genesis", "genesis_digest"}:
        raise DamagedLog(f"{path}: its beginning is incomplete", REMEDY)
    try:
        run = RunConfig.model_validate_json(meta["run"])
        genesis = GlobalState.model_validate_json(meta["genesis"])
    except (ValueError, RecursionError) as error:
        raise DamagedLog(f"{path}: its beginning is malformed", REMEDY) from error
    if (run.document(), spelled(genesis)) != (meta["run"], meta["genesis"]):
        raise DamagedLog(f"{path}: its beginning is not spelled canonically", REMEDY)
    if genesis.digest() != meta["genesis_digest"]:
        raise DamagedLog(f"{path}: its genesis is not the one that it began with", REMEDY)
    if not is_genesis_of(run, genesis):
        raise DamagedLog(f"{path}: its genesis is not that of run {run.run_id}", REMEDY)
    return run, genesis


def _checked_commits(
    connection: sqlite3.Connection, run: RunConfig, genesis: GlobalState
) -> Iterator[CommitRecord]:
    head = genesis
    rows = connection.execute("SELECT round_id, digest, num_receipts, sealed FROM commits ORDER BY round_id")
    for round_id, digest, num_receipts, sealed in rows:
        where = f"round {head.round_id + 1}"
        receipts = connection.execute(
            "SELECT position, sealed FROM receipts WHERE round_id = ? ORDER BY position", (round_id,)
        ).fetchall()
        if [position for position, _ in receipts] != list(range(len(receipts))):
            raise HistoryBroken(where, "its receipts are not numbered from 0 on")
        if num_receipts != len(receipts):
            raise HistoryBroken(where, f"{len(receipts)} receipts, where {num_receipts} were written")
        commit = chain.check_link(Link(sealed, tuple(sealed for _, sealed in receipts)), head, run)
        if (round_id, digest) != (commit.state.round_id, commit.state.digest()):
            raise HistoryBroken(where, "its round or digest column differs from its sealed commit")
        yield commit
        head = commit.state
