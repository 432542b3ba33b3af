"""Playing back what is left of a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from paceline.core import events
from paceline.core.config import Handout
from paceline.core.errors import ConfigError, LedgerError
from paceline.core.events import Event
from paceline.core.wire import unseal
from paceline.ledger import Ledger
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.settings import save_handout
from paceline.telemetry import JsonlSink
from paceline.watch.history import History
from paceline.watch.picture import PeerView, Picture
from paceline.watch.replay import Replay
from tests.core.history import genesis_of, history
from tests.watch.statements import IDS, KEYS, RUN, T0
from tests.watch.test_history import PARAMETERS, watched

ROUNDS, ROUND_S, STEPS = 5, 30.0, 4
LINKS = history(RUN, KEYS, ROUNDS)
DIGESTS = [unseal(link.commit).state.digest() for link in LINKS]  # type: ignore[attr-defined]
DIES_AT = T0 + 3.5 * ROUND_S


def a_round(round_id: int, peer: int) -> list[tuple[float, Event]]:
    """What a peer writes down in a round: 20 s of training, then a commit 5 s later."""
    begin = T0 + (round_id - 1) * ROUND_S
    told: list[tuple[float, Event]] = [
        (begin, events.PhaseChanged(round_id=round_id, phase="train")),
        *(
            (
                begin + 5.0 * step,
                events.StepDone(
                    round_id=round_id,
                    inner_step=step,
                    of_steps=STEPS,
                    loss=4.0 - peer,
                    tokens=8 * RUN.model.seq_len,
                    seconds=5.0,
                ),
            )
            for step in range(1, STEPS + 1)
        ),
        (begin + 20, events.PhaseChanged(round_id=round_id, phase="wait")),
        (begin + 22, events.PhaseChanged(round_id=round_id, phase="reduce")),
        (
            begin + 24,
            events.ReduceEnded(
                round_id=round_id, attempt=0, complete=True, seconds=2.0, bytes_in=500, bytes_out=1000
            ),
        ),
        (begin + 24, events.PhaseChanged(round_id=round_id, phase="attest")),
        (begin + 25, events.PhaseChanged(round_id=round_id, phase="apply")),
        (
            begin + 25.5,
            events.RoundCommitted(
                round_id=round_id, loss=2.0, members=4, digest=DIGESTS[round_id - 1], sync_s=5.5
            ),
        ),
        (begin + 25.6, events.CreditsCounted(round_id=round_id, balance=8 * round_id)),
        (begin + 26, events.Evaluated(round_id=round_id, val_loss=1.5)),
    ]
    if peer == 0:
        planned = events.RoundPlanned(round_id=round_id, term=1, attempt=0, members=4)
        told.append((begin + 21, planned))
    return sorted(told, key=lambda item: item[0])


def tale(peer: int) -> list[tuple[float, Event]]:
    started = events.PeerStarted(
        peer_id=IDS[peer],
        run_id=RUN.run_id,
        multiaddrs=(),
        metrics_address=f"127.0.0.1:{9000 + peer}",
        round_id=1,
        parameters=PARAMETERS,
        device="cpu",
    )
    led = events.CoordinatorChanged(term=1, coordinator=IDS[0], is_me=peer == 0)
    told: list[tuple[float, Event]] = [(T0, started), (T0 + 1, led)]
    for round_id in range(1, ROUNDS + 1):
        told += a_round(round_id, peer)
    return told


def write(state: StateFolder, told: Sequence[tuple[float, Event]], max_bytes: int = 1 << 20) -> None:
    now = [0.0]
    with JsonlSink(state.events, lambda: now[0], max_bytes=max_bytes) as sink:
        for time, event in told:
            now[0] = time
            sink(event)


def log(state: StateFolder, rounds: int = ROUNDS) -> None:
    with Ledger.open(state.log, RUN, genesis_of(RUN)) as ledger:
        for link in LINKS[:rounds]:
            ledger.append(link)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished local run, in which the last peer was killed in round 4."""
    run = RunFolder(tmp_path / "run")
    for peer in range(4):
        told = [item for item in tale(peer) if peer < 3 or item[0] < DIES_AT]
        if peer < 3:
            told.append((T0 + ROUNDS * ROUND_S, events.PeerStopped(round_id=ROUNDS, cause="finished")))
        write(run.peer(peer + 1), told)
        log(run.peer(peer + 1), ROUNDS if peer < 3 else 3)
    seeds = (f"/ip4/127.0.0.1/tcp/1/p2p/{IDS[0]}",)
    save_handout(run.handout, Handout(run_id=RUN.run_id, seeds=seeds, run_config=RUN))
    return run.path


def peer(picture: Picture, number: int) -> PeerView:
    return next(view for view in picture.peers if view.peer_id == IDS[number])


def test_a_folder_is_played_back_at_any_moment(folder: Path) -> None:
    replay = Replay.open(folder)
    assert (replay.begin, replay.end, replay.is_live) == (T0, T0 + ROUNDS * ROUND_S, False)
    in_round_2 = replay.picture(T0 + ROUND_S + 11.5)
    assert (in_round_2.rounds_committed, in_round_2.coordinator, in_round_2.term) == (1, IDS[0], 1)
    assert [view.round_id for view in in_round_2.rounds] == [1, 2]
    shown = peer(in_round_2, 1)
    assert (shown.standing, shown.round_id, shown.inner_step, shown.samples) == ("train", 2, 2, 16)
    assert (shown.loss, shown.val_loss, shown.credits, shown.samples_per_s) == (3.0, 1.5, 8, 1.6)
    assert (shown.bytes_in, shown.bytes_out) == (500, 1000)
    reducing = replay.picture(T0 + ROUND_S + 23.5)
    assert {view.standing for view in reducing.peers} == {"reduce"}
    assert (reducing.rounds[-1].term, reducing.rounds[-1].author) == (1, IDS[0])
    last = replay.picture()
    assert [peer(last, number).standing for number in range(4)] == ["finished"] * 3 + ["lost"]
    assert last.bytes_sent == 18 * 1000


def test_the_rounds_of_a_folder_are_those_of_its_logs_at_the_time_of_their_commit(folder: Path) -> None:
    rounds = Replay.open(folder).picture().rounds
    assert [view.digest for view in rounds[:ROUNDS]] == DIGESTS
    assert [view.committed_at for view in rounds[:ROUNDS]] == [
        T0 + number * ROUND_S + 25.5 for number in range(ROUNDS)
    ]
    assert rounds[2].members == tuple(sorted(IDS))
    assert rounds[2].receipts == 4
    assert set(rounds[2].losses) == set(IDS)


def test_the_timeline_of_a_folder_is_exact(folder: Path) -> None:
    spans = Replay.open(folder).picture(T0 + ROUND_S - 1).spans
    mine = [span for span in spans if span.peer_id == IDS[2]]
    assert [(span.standing, span.begin - T0, span.end - T0) for span in mine] == [
        ("train", 0.0, 20.0),
        ("wait", 20.0, 22.0),
        ("reduce", 22.0, 24.0),
        ("attest", 24.0, 25.0),
        ("apply", 25.0, pytest.approx(29.0)),
    ]


def test_a_peer_that_was_killed_is_lost_and_one_that_only_waits_is_not(folder: Path) -> None:
    replay = Replay.open(folder)
    lease_s = RUN.pace.lease_s
    before, after = replay.picture(DIES_AT + 1), replay.picture(DIES_AT + lease_s + 1)
    assert [peer(before, 3).standing, peer(after, 3).standing] == ["train", "lost"]
    assert {peer(after, number).standing for number in range(3)} == {"attest"}


def test_a_peer_that_was_started_again_was_lost_in_between(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    told = [item for item in tale(0) if item[0] < T0 + 10]
    again = told[0][1].model_copy(update={"round_id": 1})
    told += [
        (T0 + 40, events.PeerRestarting(cause="killed", wait_s=1.0, restarts=1)),
        (T0 + 41, again),
        (T0 + 42, events.PhaseChanged(round_id=1, phase="train")),
        (T0 + 45, events.PhaseChanged(round_id=1, phase="wait")),
    ]
    write(state, told)
    log(state, 0)
    replay = Replay.open(tmp_path)
    assert peer(replay.picture(T0 + 30), 0).standing == "lost"
    assert peer(replay.picture(T0 + 43), 0).standing == "train"
    standings = [span.standing for span in replay.picture().spans]
    assert standings == ["train", "lost", "train", "wait"]


def test_attempts_that_were_given_up_are_told_with_their_cause(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    told = [item for item in tale(0) if item[0] < T0 + 24]
    told += [
        (
            T0 + 24,
            events.ReduceEnded(
                round_id=1,
                attempt=0,
                complete=False,
                seconds=2.0,
                bytes_in=0,
                bytes_out=9,
                cause="stalled",
                blamed=IDS[3],
            ),
        ),
        (T0 + 25, events.AttemptVoided(round_id=1, attempt=0, cause="not enough receipts in time")),
        (T0 + 26, events.RoundPlanned(round_id=1, term=1, attempt=1, members=3)),
    ]
    write(state, told)
    log(state, 0)
    picture = Replay.open(tmp_path).picture()
    shown = picture.rounds[-1]
    assert (shown.round_id, shown.attempt, picture.attempts_voided) == (1, 1, 1)
    (void,) = shown.voids
    assert (void.term, void.attempt, void.cause, void.blamed) == (
        *(1, 0, "not enough receipts in time"),
        (IDS[3],),
    )


def test_events_of_which_the_older_half_lies_in_another_file_are_read_whole(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    told = tale(0)
    write(state, told, max_bytes=6000)
    log(state)
    assert state.events.with_name("events.jsonl.1").exists()
    replay = Replay.open(tmp_path)
    assert (replay.begin, replay.picture().rounds_committed) == (T0, ROUNDS)


def test_lines_that_are_no_events_are_passed_over(folder: Path) -> None:
    path = RunFolder(folder).peer(1).events
    path.write_bytes(b'\xff\xfe{"time": 1}\n[]\n' + path.read_bytes() + b'{"time": 17, "na')
    assert Replay.open(folder).picture().rounds_committed == ROUNDS


def test_what_a_folder_tells_of_another_run_is_passed_over(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    of_another = events.PeerStarted.model_validate({**tale(0)[0][1].model_dump(), "run_id": "other-1"})
    write(state, [(T0 - 900, of_another), (T0 - 800, events.PhaseChanged(round_id=7, phase="train"))])
    write(state, tale(0))
    log(state)
    replay = Replay.open(tmp_path)
    assert (replay.begin, replay.picture(T0).begin) == (T0, T0)


def test_a_log_alone_tells_of_rounds_and_credits(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    log(state)
    for path in (state.log, state.path):
        picture = Replay.open(path).picture()
        assert [view.digest for view in picture.rounds[:ROUNDS]] == DIGESTS
        assert picture.spans == ()
        assert [view.credits for view in picture.peers] == [8 * ROUNDS] * 4


def test_events_alone_tell_of_rounds_when_the_run_is_known(folder: Path) -> None:
    for number in range(1, 5):
        RunFolder(folder).peer(number).log.unlink()
    picture = Replay.open(folder).picture()
    assert [view.digest for view in picture.rounds[:ROUNDS]] == DIGESTS
    assert picture.rounds[0].avg_loss == 2.0
    assert [view.credits for view in picture.peers] == [40, 40, 40, 24]  # by their own account


def test_a_damaged_log_is_passed_over_when_another_peer_has_a_whole_one(folder: Path) -> None:
    _damage(RunFolder(folder).peer(1).log)
    assert Replay.open(folder).picture().rounds_committed == ROUNDS


def test_a_damaged_log_is_refused_with_its_cause(folder: Path) -> None:
    log_path = RunFolder(folder).peer(1).log
    _damage(log_path)
    with pytest.raises(LedgerError) as caught:
        Replay.open(log_path)
    assert str(log_path) in caught.value.cause
    assert caught.value.remedy


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = content.index(LINKS[2].commit[-40:])  # the signature of a commit
    content[middle] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["nothing", "empty", "text.sqlite", "foreign.sqlite"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.sqlite").write_text("hello")
    (tmp_path / "foreign.sqlite").write_bytes(b"SQLite format 3\x00" + os.urandom(2000))
    with pytest.raises((ConfigError, LedgerError)) as caught:
        Replay.open(tmp_path / name)
    assert caught.value.remedy


def test_a_log_without_a_round_is_no_replay(tmp_path: Path) -> None:
    log(StateFolder(tmp_path), 0)
    with pytest.raises(ConfigError, match="nothing was seen"):
        Replay.open(tmp_path)


def test_a_folder_that_can_not_be_written_is_played_back_and_left_as_it_is(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    before = sorted(path for path in copy.rglob("*"))
    Replay.open(copy).close()
    Replay.open(RunFolder(copy).peer(1).log).close()
    assert sorted(path for path in copy.rglob("*")) == before


def test_a_monitors_history_is_played_back(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with History(path, RUN, PARAMETERS) as kept:
        watched(kept, 4)
    replay = Replay.open(path)
    assert (replay.begin, replay.run) == (T0, RUN)
    assert replay.picture(T0 + 30).rounds_committed == 2
    assert replay.picture().rounds_committed == 4
    assert not replay.picture().is_live


def test_a_replay_has_one_version(folder: Path) -> None:
    replay = Replay.open(folder)
    assert replay.changed(0, 60.0) == 1
    assert replay.changed(1, 0.01) == 1
