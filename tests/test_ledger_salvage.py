"""A damaged log is rebuilt from what verifies, nothing is lost on the way, and no promise is forgotten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from paceline.core.actions import Promise
from paceline.core.errors import ForeignLog, LedgerError, UnusableState
from paceline.core.records import Vote
from paceline.ledger import Ledger, damage, salvage, verify
from tests.core.history import commit_of, genesis_of, history, link_of, next_state, peers, run_of

KEYS = peers(3)
RUN = run_of(KEYS)
GENESIS = genesis_of(RUN)
LINKS = history(RUN, KEYS, 4)
PROMISE = Promise(
    3,
    Vote(
        round_id=5,
        term=3,
        attempt=0,
        plan_digest="0d" * 32,
        weights_digest="0e" * 32,
        momentum_digest="0f" * 32,
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "log.sqlite"
    with Ledger.open(file, RUN, GENESIS) as ledger:
        for link in LINKS:
            ledger.append(link)
        ledger.remember(PROMISE)
    return file


def change(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


def tear_last_row(path: Path) -> None:
    change(path, "UPDATE commits SET sealed = substr(sealed, 1, length(sealed) / 2) WHERE round_id = 4")


def test_a_torn_last_row_costs_that_round_and_nothing_else(path: Path, tmp_path: Path) -> None:
    tear_last_row(path)
    damaged = path.read_bytes()
    with pytest.raises(LedgerError):
        Ledger.open(path, RUN, GENESIS)

    head = salvage(path, RUN, GENESIS, tmp_path / "aside")

    assert head.round_id == 3
    assert (tmp_path / "aside" / path.name).read_bytes() == damaged
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.head() == head
        assert ledger.promised() == PROMISE
        ledger.append(LINKS[3])
    assert verify(path).rounds == 4


def test_a_row_in_the_middle_that_is_torn_costs_what_follows(path: Path, tmp_path: Path) -> None:
    change(path, "UPDATE receipts SET sealed = x'00' WHERE round_id = 2 AND position = 1")
    assert salvage(path, RUN, GENESIS, tmp_path / "aside").round_id == 1
    assert verify(path).rounds == 1


def test_a_log_whose_promise_is_damaged_is_left_alone(path: Path, tmp_path: Path) -> None:
    change(path, "UPDATE promise SET document = replace(document, '3', '2')")
    before = path.read_bytes()
    with pytest.raises(UnusableState, match="promise") as caught:
        salvage(path, RUN, GENESIS, tmp_path / "aside")
    assert "as a new peer" in caught.value.remedy
    assert path.read_bytes() == before


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.8, 0.99])
def test_a_truncated_file_is_rebuilt_with_its_promise_or_left_alone(
    path: Path, tmp_path: Path, part: float
) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    before = path.read_bytes()
    try:
        salvage(path, RUN, GENESIS, tmp_path / "aside")
    except LedgerError:
        assert path.read_bytes() == before
    else:
        with Ledger.open(path, RUN, GENESIS) as ledger:
            assert ledger.promised() == PROMISE


def test_pages_of_zeros_cost_rounds_and_never_the_promise(path: Path, tmp_path: Path) -> None:
    whole, outcomes = path.read_bytes(), set()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        try:
            salvage(path, RUN, GENESIS, tmp_path / "aside")
        except LedgerError:
            outcomes.add("refused")
            continue
        with Ledger.open(path, RUN, GENESIS) as ledger:
            assert ledger.promised() == PROMISE
        outcomes.add("rebuilt")
    assert outcomes == {"refused", "rebuilt"}


def test_the_log_of_another_run_is_never_salvaged(path: Path, tmp_path: Path) -> None:
    other = run_of(KEYS, seed=1)
    before = path.read_bytes()
    with pytest.raises(ForeignLog):
        Ledger.open(path, other, genesis_of(other))
    with pytest.raises(LedgerError, match="which run"):
        salvage(path, other, genesis_of(other), tmp_path / "aside")
    assert path.read_bytes() == before


def test_a_kill_in_the_middle_of_a_salvage_is_made_good_at_the_next_opening(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tear_last_row(path)
    with monkeypatch.context() as patch:
        patch.setattr(damage, "finish", lambda path: None)  # killed just before
        salvage(path, RUN, GENESIS, tmp_path / "aside")
    path.with_name("log.sqlite-wal").write_bytes(b"the rest of the old log")
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.head().round_id == 3
        assert ledger.promised() == PROMISE
    assert not path.with_name("log.sqlite.rebuilt").exists()


def test_falling_back_keeps_the_old_log_aside_with_the_promise_made_there(path: Path, tmp_path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        states = list(ledger.states())
        ledger.fall_back(states[2], tmp_path / "aside")
        assert ledger.head() == states[2]
        assert ledger.credits() == {key.peer_id: 16 for key in KEYS}
        rival = next_state(RUN, states[2], KEYS, weights_digest="0f" * 32)
        ledger.append(link_of(commit_of(rival, KEYS[0]), KEYS[0], KEYS))
        assert ledger.promised() == Promise()
        ledger.remember(Promise(1))  # terms of the other branch don't bind on this one
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.promised() == Promise(1)
    with Ledger.open(tmp_path / "aside" / path.name, RUN, GENESIS) as ledger:
        assert ledger.promised() == PROMISE
    assert verify(tmp_path / "aside" / path.name).rounds == 4
    assert verify(path).rounds == 3


def test_what_a_killed_salvage_left_is_no_obstacle(path: Path, tmp_path: Path) -> None:
    tear_last_row(path)
    for name in (
        "rebuilding",
        "rebuilding-wal",
        "rebuilding-journal",
        "rebuilding.new",
        "rebuilding.new-wal",
    ):
        path.with_name(f"{path.name}.{name}").write_bytes(b"half of something" * 100)
    assert salvage(path, RUN, GENESIS, tmp_path / "aside").round_id == 3
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, "aside"}


def test_the_copy_that_is_kept_aside_is_the_damaged_log_byte_for_byte(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:  # as a killed peer leaves it
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE commits SET sealed = x'00' WHERE round_id = 4")
        before = {name: path.with_name(name).read_bytes() for name in (path.name, f"{path.name}-wal")}
        for name, content in before.items():
            (tmp_path / "killed").mkdir(exist_ok=True)
            (tmp_path / "killed" / name).write_bytes(content)
    damaged = tmp_path / "killed" / path.name
    assert salvage(damaged, RUN, GENESIS, tmp_path / "aside").round_id == 3
    assert {file.name: file.read_bytes() for file in (tmp_path / "aside").iterdir()} == before


def test_a_salvage_that_fails_leaves_no_copy(path: Path, tmp_path: Path) -> None:
    change(path, "UPDATE promise SET document = replace(document, '3', '2')")
    for _ in range(3):
        with pytest.raises(UnusableState):
            salvage(path, RUN, GENESIS, tmp_path / "aside")
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="a small disk needs root on Linux")
def test_a_full_disk_during_a_salvage_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    keys = peers(8)
    run = run_of(keys)
    links = history(run, keys, 12)
    sizes = range(300, 1200, 60)
    outcomes = set()
    for size_kb in sizes:
        disk = tmp_path / f"disk-{size_kb}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", disk], check=True)
        try:
            path = disk / "log.sqlite"
            with Ledger.open(path, run, genesis_of(run)) as ledger:
                for link in links:
                    ledger.append(link)
                ledger.remember(PROMISE)
            change(path, "UPDATE commits SET sealed = x'00' WHERE round_id = 12")
            before = path.read_bytes()
            try:
                salvage(path, run, genesis_of(run), disk / "aside")
            except LedgerError as error:
                assert not isinstance(error, UnusableState), error
                assert path.read_bytes() == before
                outcomes.add("refused")
            else:
                with Ledger.open(path, run, genesis_of(run)) as ledger:
                    assert (ledger.head().round_id, ledger.promised()) == (11, PROMISE)
                outcomes.add("rebuilt")
        except LedgerError:
            outcomes.add("too small for the log itself")
        finally:
            subprocess.run(["umount", disk], check=True)
    assert {"refused", "rebuilt"} <= outcomes


def test_falling_back_to_a_strangers_commit_is_refused(path: Path, tmp_path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        stranger = next_state(RUN, GENESIS, KEYS, weights_digest="0f" * 32)
        with pytest.raises(LedgerError, match="another commit"):
            ledger.fall_back(stranger, tmp_path / "aside")
        assert ledger.head().round_id == 4
