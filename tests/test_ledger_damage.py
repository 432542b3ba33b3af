"""Whatever is changed in a run log, somebody notices, and nobody makes it worse."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from paceline.core.actions import Promise
from paceline.core.chain import Link
from paceline.core.errors import HistoryBroken, LedgerError
from paceline.ledger import Ledger, VerifiedLog, verify
from tests.core.history import commit_of, genesis_of, history, link_of, next_state, peers, run_of

KEYS = peers(2)
RUN = run_of(KEYS)
GENESIS = genesis_of(RUN)
ROUNDS = 2


def write(path: Path, links: list[Link]) -> Path:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        for link in links:
            ledger.append(link)
        ledger.remember(Promise(3))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "run.log", history(RUN, KEYS, ROUNDS)).read_bytes()


@pytest.fixture
def path(tmp_path: Path, whole: bytes) -> Path:
    file = tmp_path / "run.log"
    file.write_bytes(whole)
    return file


def change(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


def refusal(path: Path) -> str:
    """Check that verifying and opening both refuse, and that the file stays as it is."""
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        verify(path)
    with pytest.raises(LedgerError):
        Ledger.open(path, RUN, GENESIS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.name in caught.value.cause
    return caught.value.cause


def stored_values(path: Path) -> Iterator[tuple[str, str, str, tuple[Any, ...], Any]]:
    """Every value of every row: its table, column, the condition that finds its row, and the value."""
    keys = {"meta": ("key",), "commits": ("round_id",), "receipts": ("round_id", "position")}
    with closing(sqlite3.connect(path)) as connection:
        for table, key in keys.items():
            cursor = connection.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            where = " AND ".join(f"{name} = ?" for name in key)
            for row in cursor.fetchall():
                found = dict(zip(columns, row, strict=True))
                for column in columns:
                    yield table, column, where, tuple(found[name] for name in key), found[column]


def variants(value: Any) -> Iterator[Any]:
    """The value with one byte changed, at every place; of long values at every third."""
    if isinstance(value, int):
        yield from (value + 1, value - 1, value + 256, -value - 1)
        return
    raw = value if isinstance(value, bytes) else value.encode()
    for position in range(0, len(raw), 3 if len(raw) > 100 else 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        yield bytes(changed) if isinstance(value, bytes) else bytes(changed).decode()


def test_any_changed_byte_of_a_stored_row_is_noticed(path: Path, whole: bytes) -> None:
    expected, tried = verify(path), 0
    for table, column, where, key, value in list(stored_values(path)):
        for variant in variants(value):
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("BEGIN")
                try:
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (variant, *key))
                except sqlite3.IntegrityError:
                    continue  # SQLite itself forbids two rows with one key
                connection.execute("COMMIT")
            with pytest.raises(LedgerError):
                verify(path)
            tried += 1
            path.write_bytes(whole)
    assert tried > 1000
    assert verify(path) == expected


@pytest.mark.parametrize("value", [None, 1.5, "text", b"bytes", "", b"", 2**62], ids=repr)
def test_a_value_of_another_kind_is_noticed(path: Path, whole: bytes, value: Any) -> None:
    for table, column, where, key, _ in list(stored_values(path)):
        try:
            change(path, f"UPDATE {table} SET {column} = ? WHERE {where}", value, *key)
        except sqlite3.IntegrityError:
            continue
        with pytest.raises(LedgerError):
            verify(path)
        path.write_bytes(whole)


def test_any_changed_byte_of_the_file_is_noticed_or_says_nothing(path: Path, whole: bytes) -> None:
    expected = verify(path)
    refused = 0
    for position in [*range(100), *range(100, len(whole), 17)]:
        changed = bytearray(whole)
        changed[position] ^= 0x41
        path.write_bytes(changed)
        try:
            assert verify(path) == expected, f"byte {position}"
        except LedgerError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("part", [0, 1, 99, 100, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_truncated_log_is_refused(path: Path, whole: bytes, part: float) -> None:
    path.write_bytes(whole[: part if isinstance(part, int) else int(len(whole) * part)])
    refusal(path)


def test_a_log_with_a_page_of_zeros_is_refused(path: Path, whole: bytes) -> None:
    page = 4096
    for start in range(0, len(whole), page):
        path.write_bytes(whole[:start] + bytes(page) + whole[start + page :])
        with pytest.raises(LedgerError):
            verify(path)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_text("This is my diary. " * 500)
    refusal(path)


def test_the_database_of_another_program_is_refused(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE diary (entry TEXT)")
    assert "not a run log" in refusal(path)


def test_a_log_of_another_version_is_refused(path: Path) -> None:
    change(path, "PRAGMA user_version = 2")
    assert "another version" in refusal(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    for attempt in (lambda: verify(tmp_path), lambda: Ledger.open(tmp_path, RUN, GENESIS)):
        with pytest.raises(LedgerError, match="no such log"):
            attempt()


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"missing\.log: there is no such log"):
        verify(tmp_path / "missing.log")


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"run\.log"):
        Ledger.open(tmp_path / "file" / "run.log", RUN, GENESIS)


def renumber(path: Path) -> None:
    change(path, "UPDATE receipts SET position = position + 1 WHERE round_id = 1 AND position = 1")


def swap(path: Path) -> None:
    for round_id, place in ((1, 99), (2, 1), (99, 2)):
        change(path, "UPDATE commits SET round_id = ? WHERE round_id = ?", place, round_id)


def remove_first_round(path: Path) -> None:
    for table in ("receipts", "commits"):
        change(path, f"DELETE FROM {table} WHERE round_id = 1")


def without_table(path: Path) -> None:
    change(path, "DROP TABLE receipts")


EDITS: dict[str, tuple[Callable[[Path], None] | str, str]] = {
    "a commit removed from the middle": ("DELETE FROM commits WHERE round_id = 1", "does not hold"),
    "a round removed from the middle": (
        remove_first_round,
        "round 1: round 2 stands in its place",
    ),
    "a receipt removed": ("DELETE FROM receipts WHERE round_id = 2 AND position = 1", "where 2 were written"),
    "all receipts removed": ("DELETE FROM receipts", "where 2 were written"),
    "a receipt of no round": ("INSERT INTO receipts VALUES (9, 0, x'00')", "does not hold"),
    "a receipt added": ("INSERT INTO receipts VALUES (2, 2, x'00')", "3 receipts, where 2 were written"),
    "receipts renumbered": (renumber, "not numbered"),
    "two rounds swapped": (swap, "round 1"),
    "a digest that is another round's": (
        "UPDATE commits SET digest = (SELECT digest FROM commits WHERE round_id = 1)",
        "round 2: its round or digest column",
    ),
    "the beginning removed": ("DELETE FROM meta WHERE key = 'genesis'", "incomplete"),
    "the beginning added to": ("INSERT INTO meta VALUES ('more', '')", "incomplete"),
    "another run's document": (
        lambda path: change(
            path, "UPDATE meta SET value = ? WHERE key = 'run'", run_of(KEYS, seed=1).document()
        ),
        "not that of run",
    ),
    "a document that is no JSON": ("UPDATE meta SET value = '{' WHERE key = 'run'", "malformed"),
    "a document nested without end": (
        lambda path: change(path, "UPDATE meta SET value = ? WHERE key = 'genesis'", "[" * 100_000),
        "malformed",
    ),
    "a document with spaces": ("UPDATE meta SET value = value || ' ' WHERE key = 'run'", "canonical"),
    "a promise edited": ("UPDATE promise SET document = replace(document, '3', '2')", "promise is damaged"),
    "a table gone": (without_table, "no such table"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_log_is_refused_by_name(path: Path, name: str) -> None:
    edit, expected = EDITS[name]
    if isinstance(edit, str):
        change(path, edit)
    else:
        edit(path)
    assert expected in refusal(path)


def test_a_log_that_does_not_verify_is_refused_and_left_as_it_is(path: Path) -> None:
    change(path, "UPDATE commits SET digest = ? WHERE round_id = 2", "0c" * 32)
    assert "round 2: its round or digest column differs" in refusal(path)


def test_a_beginning_whose_weights_were_changed_is_refused_even_without_commits(tmp_path: Path) -> None:
    file = write(tmp_path / "run.log", [])
    other = GENESIS.model_copy(update={"weights_digest": "0c" * 32})
    change(file, "UPDATE meta SET value = replace(value, ?, ?)", GENESIS.weights_digest, other.weights_digest)
    assert "not the one that it began with" in refusal(file)


def test_a_rival_history_with_its_own_signatures_is_refused(path: Path) -> None:
    rival = next_state(RUN, GENESIS, KEYS, weights_digest="0f" * 32)
    link = link_of(commit_of(rival, KEYS[0]), KEYS[0], KEYS)
    change(path, "UPDATE commits SET sealed = ?, digest = ? WHERE round_id = 1", link.commit, rival.digest())
    for position, receipt in enumerate(link.receipts):
        change(path, "UPDATE receipts SET sealed = ? WHERE round_id = 1 AND position = ?", receipt, position)
    # Round 1 stands on its own now; the next commit says what it stood on.
    with pytest.raises(HistoryBroken) as caught:
        verify(path)
    assert caught.value.where == f"{path}, round 2"
    assert "prev_digest" in caught.value.what


def test_a_log_that_ends_earlier_is_a_shorter_history(path: Path, whole: bytes) -> None:
    before: VerifiedLog = verify(path)
    change(path, "DELETE FROM receipts WHERE round_id = 2")
    change(path, "DELETE FROM commits WHERE round_id = 2")
    after = verify(path)
    assert (before.rounds, after.rounds) == (2, 1)
    assert after.credits == {key.peer_id: 8 for key in KEYS}
