"""The run log keeps what it was given, through crashes and beside readers."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from paceline.core import chain
from paceline.core.actions import Promise
from paceline.core.chain import Link
from paceline.core.credits import fold
from paceline.core.errors import HistoryBroken, LedgerError
from paceline.core.records import Ballot, GlobalState, RoundPlan, Vote
from paceline.ledger import Ledger, LogReader, verify
from paceline.ledger.replay import replay
from tests.core.history import commit_of, genesis_of, history, link_of, next_state, peers, run_of

KEYS = peers(3)
RUN = run_of(KEYS)
GENESIS = genesis_of(RUN)
LINKS = history(RUN, KEYS, 5)
PLAN = RoundPlan(
    run_id=RUN.run_id,
    peer_id=KEYS[0].peer_id,
    seq=1,
    expires_at=2.0,
    round_id=1,
    term=3,
    attempt=0,
    prev_digest=GENESIS.digest(),
    roster=tuple(key.peer_id for key in KEYS),
    samples=(8, 8, 8),
    avg_loss=2.5,
    origin=Ballot(2, 1),
)


def vote(round_id: int = 1, term: int = 1, attempt: int = 0, weights: str = "0a") -> Vote:
    return Vote(
        round_id=round_id,
        term=term,
        attempt=attempt,
        plan_digest="0e" * 32,
        weights_digest=weights * 32,
        momentum_digest="0b" * 32,
    )


def filled(path: Path, rounds: int = 5) -> Path:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        for link in LINKS[:rounds]:
            ledger.append(link)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peer" / "run.log"


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_new_log_stands_on_the_genesis(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.head() == GENESIS
        assert ledger.links(0, 10) == []
        assert list(ledger.states()) == [GENESIS]
        assert ledger.credits() == {}
        assert ledger.promised() == Promise()
    assert verify(path).rounds == 0


def test_what_was_appended_is_there_after_opening_again(path: Path) -> None:
    filled(path, 3)
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.head().round_id == 3
        assert ledger.links(0, 10) == LINKS[:3]
        assert ledger.append(LINKS[3]) == ledger.head()
        assert [state.round_id for state in ledger.states()] == [0, 1, 2, 3, 4]


def test_a_log_is_opened_again_by_whoever_does_not_know_its_run(path: Path) -> None:
    with Ledger.reopen(filled(path, 3)) as ledger:
        assert (ledger.run, ledger.head().round_id) == (RUN, 3)
        ledger.append(LINKS[3])
    assert verify(path).rounds == 4
    with pytest.raises(LedgerError, match="no such log"):
        Ledger.reopen(path.with_name("elsewhere"))
    assert not path.with_name("elsewhere").exists()


def test_a_replay_shows_every_commit_from_the_genesis_on(path: Path) -> None:
    seen: list[GlobalState] = []
    found = replay(filled(path), seen.append)
    assert [state.round_id for state in seen] == [0, 1, 2, 3, 4, 5]
    assert (seen[0], seen[-1]) == (GENESIS, found.head)


def test_links_come_back_byte_by_byte_and_page_by_page(path: Path) -> None:
    with Ledger.open(filled(path), RUN, GENESIS) as ledger:
        assert ledger.links(0, 2) == LINKS[:2]
        assert ledger.links(2, 2) == LINKS[2:4]
        assert ledger.links(5, 2) == []


@pytest.mark.parametrize(
    ("after", "limit", "count"), [(-(10**30), 2, 2), (10**30, 2, 0), (0, -1, 0), (0, 10**30, 5)]
)
def test_a_stranger_may_ask_for_any_range(path: Path, after: int, limit: int, count: int) -> None:
    reader = LogReader(filled(path))
    assert len(reader.links(after, limit)) == count
    reader.close()


def test_credits_are_the_fold_of_the_chain(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        for link in LINKS:
            ledger.append(link)
            assert ledger.credits() == fold(list(ledger.states())[1:])
        assert ledger.credits() == {key.peer_id: 40 for key in KEYS}
    assert verify(path).credits == {key.peer_id: 40 for key in KEYS}


def test_verify_tells_what_the_log_says(path: Path) -> None:
    found = verify(filled(path))
    with Ledger.open(path, RUN, GENESIS) as ledger:
        last = chain.check_link(LINKS[4], list(ledger.states())[4], RUN).state
    assert (found.run_id, found.rounds, found.head_digest) == (RUN.run_id, 5, last.digest())


def test_a_link_that_does_not_follow_is_refused_and_not_written(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.append(LINKS[0])
        for wrong in (LINKS[0], LINKS[2], Link(LINKS[1].commit, LINKS[1].receipts[:1])):
            with pytest.raises(HistoryBroken, match="round 2"):
                ledger.append(wrong)
        assert ledger.links(0, 10) == LINKS[:1]
        ledger.append(LINKS[1])


def test_only_one_commit_can_follow_another(path: Path) -> None:
    rival = next_state(RUN, GENESIS, KEYS, weights_digest="0f" * 32)
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.append(LINKS[0])
        with pytest.raises(HistoryBroken):
            ledger.append(link_of(commit_of(rival, KEYS[0]), KEYS[0], KEYS))


def test_a_row_is_written_whole_or_not_at_all(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.append(LINKS[0])
        # A receipt in the way makes the second insert of the transaction fail.
        with sqlite3.connect(path) as saboteur:
            saboteur.execute("INSERT INTO receipts VALUES (2, 1, x'00')")
        saboteur.close()
        with pytest.raises(LedgerError, match=r"run\.log"):
            ledger.append(LINKS[1])
        assert ledger.head().round_id == 1
        assert ledger.credits() == {key.peer_id: 8 for key in KEYS}
        assert ledger.links(0, 10) == LINKS[:1]
        with sqlite3.connect(path) as saboteur:
            saboteur.execute("DELETE FROM receipts WHERE round_id = 2")
        saboteur.close()
        ledger.append(LINKS[1])
    assert verify(path).rounds == 2


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from paceline.core.actions import Promise
from paceline.ledger import Ledger
from tests.core.history import commit_of, genesis_of, link_of, next_state, peers, run_of

keys = peers(3)
run = run_of(keys)
with Ledger.open(Path(sys.argv[1]), run, genesis_of(run)) as ledger:
    while True:
        state = next_state(run, ledger.head(), keys)
        ledger.remember(Promise(state.round_id))
        ledger.append(link_of(commit_of(state, keys[0]), keys[0], keys))
        print(state.round_id, flush=True)
"""


def test_what_append_returned_survives_a_kill(path: Path) -> None:
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert child.stdout is not None
        lines = [int(child.stdout.readline()) for _ in range(15)]
        child.send_signal(signal.SIGKILL)
        lines += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
        found = verify(path)
        assert lines[-1] <= found.rounds <= lines[-1] + 1
        with Ledger.open(path, RUN, GENESIS) as ledger:
            assert ledger.head().round_id == found.rounds
            assert ledger.promised().term in {found.rounds, found.rounds + 1}


def test_the_main_file_alone_holds_every_row_after_each_append(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        for number, link in enumerate(LINKS, start=1):
            ledger.append(link)
            with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as alone:
                assert alone.execute("SELECT count(*) FROM commits").fetchone() == (number,)
            alone.close()


def test_closing_leaves_one_file(path: Path) -> None:
    filled(path)
    assert [file.name for file in path.parent.iterdir()] == ["run.log"]


def test_an_interrupted_beginning_is_begun_again(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("run.log.new").write_bytes(b"half a file")
    assert verify(filled(path)).rounds == 5
    assert [file.name for file in path.parent.iterdir()] == ["run.log"]


def test_the_rest_of_a_log_that_is_gone_is_not_replayed_into_a_new_one(path: Path) -> None:
    path.parent.mkdir()
    rest = path.with_name("run.log-wal")
    rest.write_bytes(b"left over")
    with pytest.raises(LedgerError, match="rest of a log"):
        Ledger.open(path, RUN, GENESIS)
    assert rest.read_bytes() == b"left over"


def test_a_genesis_of_another_run_begins_nothing(path: Path) -> None:
    for wrong in (genesis_of(run_of(KEYS, seed=1)), GENESIS.model_copy(update={"round_id": 1})):
        with pytest.raises(LedgerError, match="genesis"):
            Ledger.open(path, RUN, wrong)
    assert not path.exists()


def test_a_log_of_another_run_is_refused_and_left_as_it_is(path: Path) -> None:
    before = files_in(filled(path).parent)
    other = run_of(KEYS, seed=1)
    with pytest.raises(LedgerError, match=f"{RUN.run_id}, not of {other.run_id}"):
        Ledger.open(path, other, genesis_of(other))
    with pytest.raises(LedgerError, match="other weights"):
        Ledger.open(path, RUN, GENESIS.model_copy(update={"weights_digest": "0c" * 32}))
    assert files_in(path.parent) == before


def test_a_promise_is_recalled_after_a_restart(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.remember(Promise(3, vote(term=3), PLAN))
        assert ledger.promised() == Promise(3, vote(term=3), PLAN)
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.promised() == Promise(3, vote(term=3), PLAN)
        ledger.remember(Promise(4, vote(term=3), PLAN))
    with Ledger.open(path, RUN, GENESIS) as ledger:
        assert ledger.promised() == Promise(4, vote(term=3), PLAN)


def test_a_promise_is_never_taken_back(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        promise = Promise(3, vote(term=3, attempt=1))
        ledger.remember(promise)
        for contradiction, named in (
            (Promise(2, vote(term=3, attempt=1)), "term 2 is earlier"),
            (Promise(3, None), "taken back"),
            (Promise(4, vote(term=3, attempt=0)), "taken back"),
            (Promise(4, vote(term=3, attempt=1, weights="0c")), "second, different"),
        ):
            with pytest.raises(LedgerError, match=named):
                ledger.remember(contradiction)
        assert ledger.promised() == promise
        ledger.remember(promise)
        ledger.remember(Promise(5, vote(term=5, weights="0c")))


def test_several_threads_may_use_a_ledger_at_once(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        done = threading.Event()
        terms: list[int] = []

        def promise() -> None:
            while not done.is_set():
                ledger.remember(Promise(len(terms)))
                terms.append(len(ledger.links(0, 100)))

        other = threading.Thread(target=promise)
        other.start()
        for link in history(RUN, KEYS, 30):
            ledger.append(link)
        done.set()
        other.join()
        assert ledger.promised() == Promise(len(terms) - 1)
        assert terms == sorted(terms)
    assert verify(path).rounds == 30


def test_a_commit_frees_the_vote_of_its_round(path: Path) -> None:
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.remember(Promise(1, vote()))
        ledger.append(LINKS[0])
        ledger.remember(Promise(1, None))
        ledger.remember(Promise(1, vote(round_id=2)))
        assert ledger.promised() == Promise(1, vote(round_id=2))


def read_in_child(path: Path, pipe: Connection) -> None:
    reader = LogReader(path)
    while (after := pipe.recv()) is not None:
        pipe.send(reader.links(after, 100))
    pipe.send("bye")


def test_a_forked_reader_follows_a_writer(path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ours, theirs = fork.Pipe()
        child = fork.Process(target=read_in_child, args=(path, theirs))
        child.start()
        for number, link in enumerate(LINKS):
            ours.send(0)
            assert ours.recv() == LINKS[:number]
            ledger.append(link)
            ours.send(number)
            assert ours.recv() == [link]
        ours.send(None)
        assert ours.recv() == "bye"
        child.join()
        assert child.exitcode == 0
        assert ledger.links(0, 100) == LINKS
    assert verify(path).rounds == 5


def test_a_reader_that_was_made_before_the_log_waits_for_it(path: Path) -> None:
    reader = LogReader(path)
    with pytest.raises(LedgerError, match=r"run\.log"):
        reader.links(0, 1)
    filled(path)
    assert reader.links(0, 100) == LINKS
    reader.close()
    reader.close()


def test_a_reader_can_not_write(path: Path) -> None:
    reader = LogReader(filled(path))
    reader.links(0, 1)
    assert reader._connection is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM commits")
    reader.close()


def test_a_log_in_use_verifies_at_every_moment(path: Path) -> None:
    links = history(RUN, KEYS, 40)
    with Ledger.open(path, RUN, GENESIS) as ledger:
        done = threading.Event()
        seen: list[int] = []

        def watch() -> None:
            while not done.is_set():
                seen.append(verify(path).rounds)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for link in links:
            ledger.append(link)
        done.set()
        watcher.join()
        assert seen == sorted(seen)
        assert verify(path).rounds == 40


def test_verifying_changes_no_file(path: Path) -> None:
    filled(path)
    before = files_in(path.parent)
    verify(path)
    assert files_in(path.parent) == before


GOLDEN = Path(__file__).parent / "golden" / "run_log.sql"


def test_a_log_of_this_format_can_always_be_read(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(GOLDEN.read_text())
    found = verify(path)
    assert (found.rounds, found.credits) == (1, {key.peer_id: 8 for key in KEYS})


def test_the_format_of_a_log_is_what_it_was(path: Path) -> None:
    # A change here means that earlier logs can't be read: raise the format's number, read both, and only then
    # write another golden example.
    with Ledger.open(path, RUN, GENESIS) as ledger:
        ledger.append(LINKS[0])
        ledger.remember(Promise(3))
    with closing(sqlite3.connect(path)) as ours, closing(sqlite3.connect(":memory:")) as golden:
        golden.executescript(GOLDEN.read_text())
        assert list(ours.iterdump()) == list(golden.iterdump())
        for number in ("application_id", "user_version"):
            assert (
                ours.execute(f"PRAGMA {number}").fetchone() == golden.execute(f"PRAGMA {number}").fetchone()
            )
