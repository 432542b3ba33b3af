"""What a watch keeps on disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from paceline.core.errors import ConfigError, LedgerError
from paceline.ledger import Ledger
from paceline.watch.fold import Swarm
from paceline.watch.history import History
from paceline.watch.picture import Picture
from paceline.watch.replay import Replay
from tests.core.history import genesis_of, run_of
from tests.watch.statements import IDS, KEYS, RUN, T0, beat, round_of, states

PARAMETERS = 1000
ROUND_S = 20.0


def watched(history: History, rounds: int, first: int = 0, swarm: Swarm | None = None) -> Swarm:
    """Watch some rounds go by, one every 20 s, with a look every 5 s."""
    swarm = swarm or Swarm(RUN, PARAMETERS)
    for number, state in enumerate(states(first + rounds)[first:], start=first):
        at = T0 + number * ROUND_S
        for record in round_of(state, at):
            swarm.take(record, at)
        for look in range(4):
            now = at + 5.0 * look
            for peer in range(4):
                swarm.take(beat(peer, state.round_id + 1, now, inner_step=look), now)
            history.note(swarm.picture(now))
    return swarm


def test_a_second_watch_shows_the_rounds_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with History(path, RUN, PARAMETERS) as history:
        watched(history, 5)
        last = history.picture(T0 + 100, None)
    assert last is not None
    again = Swarm(RUN, PARAMETERS)
    with History(path, RUN, PARAMETERS) as history:
        assert history.span is not None
        recalled = history.picture(history.span[1], None)
        assert recalled is not None
        again.recall(recalled)
    shown = again.picture(T0 + 200)
    assert shown.rounds[:5] == last.rounds[:5]
    assert [view.credits for view in shown.peers] == [40, 40, 40, 40]
    assert (
        (shown.bytes_sent, shown.data_parallel_bytes) == (last.bytes_sent, last.data_parallel_bytes) != (0, 0)
    )
    assert {view.standing for view in shown.peers} == {"lost"}  # nobody has been heard since
    again.take(beat(0, 6, T0 + 95, inner_step=3), T0 + 200)  # its last words are still on the board
    again.take(beat(1, 6, T0 + 200, inner_step=4), T0 + 200)
    standings = [view.standing for view in again.picture(T0 + 200).peers]
    assert [standings[sorted(IDS).index(IDS[peer])] for peer in (0, 1)] == ["lost", "train"]


def test_a_second_watch_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with History(path, RUN, PARAMETERS) as history:
        whole = watched(history, 3)
        last = history.picture(T0 + 100, None)
        assert last is not None
        again = Swarm(RUN, PARAMETERS)
        again.recall(last)
        for swarm in (whole, again):
            watched(history, 3, first=3, swarm=swarm)
    now = T0 + 6 * ROUND_S
    assert again.picture(now, None).rounds == whole.picture(now, None).rounds
    for shown in (again.picture(now), whole.picture(now)):
        assert (shown.bytes_sent, shown.rounds_committed) == (4 * 600, 6)
    assert again.picture(now).data_parallel_bytes == whole.picture(now).data_parallel_bytes


def test_a_moment_is_shown_as_it_was(tmp_path: Path) -> None:
    with History(tmp_path / "watch.sqlite", RUN, PARAMETERS) as history:
        watched(history, 6)
        then = history.picture(T0 + 2.5 * ROUND_S)
        last = history.picture(T0 + 1e6)
    assert then is not None
    assert last is not None
    assert ([v.round_id for v in then.rounds], then.rounds_committed) == ([1, 2, 3, 4], 3)
    assert (last.rounds_committed, then.is_live) == (6, False)
    assert {view.round_id for view in then.peers} == {4}
    assert all(span.end <= then.at for span in then.spans)
    assert {span.round_id for span in then.spans} == {1, 2, 3, 4}


def test_few_rounds_are_shown_when_few_are_asked_for(tmp_path: Path) -> None:
    with History(tmp_path / "watch.sqlite", RUN, PARAMETERS) as history:
        watched(history, 6)
        shown = history.picture(T0 + 6 * ROUND_S, 3)
    assert shown is not None
    assert [view.round_id for view in shown.rounds] == [5, 6, 7]


def test_what_was_noted_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.watch.test_history import *\n"
        "watched(History(Path(sys.argv[1]), RUN, PARAMETERS), 4)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    with History(path, RUN, PARAMETERS) as history:
        shown = history.picture(T0 + 1e6)
    assert shown is not None
    assert shown.rounds_committed == 4


def test_a_history_stays_below_its_size(tmp_path: Path) -> None:
    path, most = tmp_path / "watch.sqlite", 1 << 18
    with History(path, RUN, PARAMETERS, max_bytes=most) as history:
        swarm = watched(history, 3)
        shown = swarm.picture(T0 + 60)
        for number in range(600):  # somebody turns "lost" and back with every look
            history.note(_later(shown, number), at_once=True)
        span = history.span
        assert span is not None
        assert span == (T0, T0 + 60 + 599)
        early = history.picture(T0 + 61)
        assert early is not None
        assert early.rounds_committed == 3
    assert path.stat().st_size <= most


def _later(shown: Picture, number: int) -> Picture:
    text = os.urandom(8).hex()  # nothing that deflates well
    peers = tuple(peer.model_copy(update={"metrics_address": text}) for peer in shown.peers)
    return shown.model_copy(update={"at": shown.at + number, "peers": peers})


def test_a_history_of_another_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path, other = tmp_path / "watch.sqlite", run_of(KEYS, name="other")
    History(path, other, PARAMETERS).close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another run"):
        History(path, RUN, PARAMETERS)
    assert path.read_bytes() == before
    History(path, other, PARAMETERS).close()  # and nothing keeps it locked


def test_of_two_monitors_only_one_writes_a_history(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with History(path, RUN, PARAMETERS) as history:
        watched(history, 2)
        with pytest.raises(ConfigError, match="another monitor"):
            History(path, RUN, PARAMETERS)
        with History.read(path) as reading:  # but anybody may look
            shown = reading.picture(T0 + 1e6)
    assert shown is not None
    assert shown.rounds_committed == 2


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all" * 50, b"SQLite format 3\x00" + bytes(4000)]
)
def test_something_else_is_no_history(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "watch.sqlite"
    path.write_bytes(content)
    with pytest.raises((ConfigError, LedgerError)):
        History.read(path)
    with pytest.raises((ConfigError, LedgerError)):
        Replay.open(path)


def test_a_run_log_is_no_history(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "log.sqlite", RUN, genesis_of(RUN)).close()
    with pytest.raises(ConfigError, match="no history"):
        History(tmp_path / "log.sqlite", RUN, PARAMETERS)


def test_a_damaged_history_says_so_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with History(path, RUN, PARAMETERS) as history:
        watched(history, 3)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rounds SET document = x'00'")
    with pytest.raises(LedgerError, match="damaged") as caught:
        Replay.open(path).picture()
    assert "new history" in caught.value.remedy


def test_neighbours_are_kept(tmp_path: Path) -> None:
    path, addresses = tmp_path / "watch.sqlite", (f"/ip4/192.0.2.1/tcp/1/p2p/{IDS[0]}",)
    with History(path, RUN, PARAMETERS) as history:
        assert history.neighbours() == ()
        history.keep_neighbours(addresses)
    with History.read(path) as history:
        assert history.neighbours() == addresses
