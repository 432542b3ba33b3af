"""Claims about what each source knows of a peer's part in a round: logs, event files, a history, a board."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from paceline.core import events
from paceline.core.errors import LedgerError, PacelineError
from paceline.core.events import Event
from paceline.core.records import MAX_MEMBERS, Phase, Record
from paceline.ledger import Ledger
from paceline.telemetry import JsonlSink
from paceline.watch.fold import Swarm
from paceline.watch.history import History
from paceline.watch.inquiry import HistoryInquiry, LogInquiry, open_inquiry
from paceline.watch.present import PresentInquiry
from paceline.watch.replay import Replay
from paceline.watch.why import Reason, explain
from tests.core.history import commit_of, genesis_of, link_of, next_state, receipt_of
from tests.watch.statements import IDS, KEYS, RUN, T0, beat, plan_of

FIRST = next_state(RUN, genesis_of(RUN), KEYS)
SECOND = next_state(RUN, FIRST, KEYS[:3], attempt=1)  # without the last peer
THIRD = next_state(RUN, SECOND, KEYS)
LATE, HIS = IDS[3], KEYS[3]
TOKENS = 8 * RUN.model.seq_len
BEGUN, PLANNED = T0 + 10, T0 + 40
Tale = list[tuple[float, Event]]


def started(at: float, peer: int = 3, round_id: int = 1) -> tuple[float, Event]:
    event = events.PeerStarted(
        peer_id=IDS[peer],
        run_id=RUN.run_id,
        multiaddrs=(),
        metrics_address="",
        round_id=round_id,
        parameters=1,
        device="cpu",
    )
    return at, event


def stepped(at: float, round_id: int = 2) -> tuple[float, Event]:
    event = events.StepDone(round_id=round_id, inner_step=1, of_steps=4, loss=1.0, tokens=TOKENS, seconds=1.0)
    return at, event


def entered(at: float, phase: str, round_id: int = 2) -> tuple[float, Event]:
    return at, events.PhaseChanged(round_id=round_id, phase=phase)


def committed(at: float, round_id: int = 1, digest: str = "") -> tuple[float, Event]:
    digest = digest or (FIRST, SECOND, THIRD)[round_id - 1].digest()
    return at, events.RoundCommitted(round_id=round_id, loss=1.0, members=4, digest=digest, sync_s=1.0)


def reduced(
    at: float, attempt: int, complete: bool, cause: str = "", blamed: str = ""
) -> tuple[float, Event]:
    event = events.ReduceEnded(
        round_id=2,
        attempt=attempt,
        complete=complete,
        seconds=1.0,
        bytes_in=1,
        bytes_out=1,
        cause=cause,
        blamed=blamed,
    )
    return at, event


LEADER: Tale = [
    started(T0, 0),
    committed(BEGUN),
    entered(BEGUN, "train"),
    stepped(T0 + 20),
    stepped(T0 + 25),
    (PLANNED, events.RoundPlanned(round_id=2, term=1, attempt=1, members=3)),
    reduced(PLANNED + 2, 1, complete=True),
    committed(PLANNED + 5, 2),
]
FAILED: Tale = [
    reduced(T0 + 30, 0, complete=False, cause="lost the connection to it", blamed=LATE),
    (T0 + 31, events.AttemptVoided(round_id=2, attempt=0, cause="too few members got the whole average")),
]


def log_in(folder: Path) -> Path:
    with Ledger.open(folder / "log.sqlite", RUN, genesis_of(RUN)) as ledger:
        for state, voters in ((FIRST, KEYS), (SECOND, KEYS[:3]), (THIRD, KEYS)):
            ledger.append(link_of(commit_of(state, KEYS[0]), KEYS[0], voters))
    return folder / "log.sqlite"


def written(path: Path, tale: Tale) -> Path:
    times = iter([at for at, _ in tale])
    with JsonlSink(path, clock=lambda: next(times)) as sink:
        for _, event in tale:
            sink(event)
    return path


def told(tmp_path: Path, *tale: tuple[float, Event], leader: Tale = LEADER, round_id: int = 2) -> Reason:
    """What files of a local run say of the last peer's part."""
    files = [written(tmp_path / "1.jsonl", sorted(leader, key=lambda one: one[0]))]
    if tale:
        files.append(written(tmp_path / "4.jsonl", list(tale)))
    inquiry = LogInquiry([log_in(tmp_path)], files)
    return explain(LATE, round_id, inquiry.evidence(LATE, round_id))


# A log


def test_a_log_alone_tells_who_was_credited_and_how_much_of_what_it_had_trained(tmp_path: Path) -> None:
    with open_inquiry(tmp_path, [log_in(tmp_path)], []) as inquiry:
        assert (inquiry.run, inquiry.height) == (RUN, 3)
        assert inquiry.known == frozenset(IDS)
        reason = explain(IDS[0], 2, inquiry.evidence(IDS[0], 2))
        assert (reason.kind, reason.credited, reason.trained) == ("credited", 8, 8)
        assert explain(LATE, 2, inquiry.evidence(LATE, 2)).kind == "untold"
        assert explain(LATE, 4, inquiry.evidence(LATE, 4)).kind == "not_committed"
        assert explain(LATE, 9, inquiry.evidence(LATE, 9)).kind == "not_begun"
        assert explain(LATE, -1, inquiry.evidence(LATE, -1)).kind == "no_round"


def test_the_longest_log_that_verifies_counts(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"no log")
    whole = log_in(tmp_path)
    assert LogInquiry([tmp_path / "broken.sqlite", whole], []).height == 3
    with pytest.raises(LedgerError, match="broken"):
        LogInquiry([tmp_path / "broken.sqlite"], [])


# Event files


def test_a_peer_whose_file_is_not_there_is_not_made_up(tmp_path: Path) -> None:
    assert told(tmp_path).kind == "untold"


def test_who_was_blamed_is_known_from_the_others_files(tmp_path: Path) -> None:
    reason = told(tmp_path, leader=LEADER + FAILED)
    assert (reason.kind, reason.blamed_by) == ("failed", (IDS[0],))
    assert "(attempt 0)" in reason.said
    assert "lost the connection to it" in reason.said


def test_who_failed_by_its_own_account_is_known_from_its_own_file(tmp_path: Path) -> None:
    mine = reduced(T0 + 30, 0, complete=False, cause="this peer stood still for 9 s", blamed=LATE)
    reason = told(tmp_path, started(T0), committed(BEGUN), stepped(T0 + 20), mine)
    assert (reason.kind, reason.trained) == ("failed", 8)
    assert "this peer stood still for 9 s" in reason.said


AT_WORK = (started(T0), committed(BEGUN), entered(BEGUN, "train"), stepped(T0 + 20))


@pytest.mark.parametrize(
    ("tale", "kind"),
    [
        ((*AT_WORK, entered(PLANNED + 9, "repair")), "not_heard"),
        ((*AT_WORK, entered(T0 + 30, "repair"), entered(PLANNED + 9, "train", 3)), "repairing"),
        ((*AT_WORK[:3], committed(PLANNED + 9, 2)), "trained_nothing"),
        ((*AT_WORK, started(PLANNED + 9, round_id=2)), "not_heard"),
        ((*AT_WORK, started(T0 + 30, round_id=2), entered(PLANNED + 9, "train", 3)), "restarted"),
        ((started(T0), stepped(T0 + 20, 1), entered(PLANNED + 9, "train", 3)), "behind"),
        (
            (started(T0), committed(BEGUN, 1, "0f" * 32), stepped(T0 + 20), entered(PLANNED + 9, "wait")),
            "other_head",
        ),
        ((*AT_WORK, (T0 + 30, events.PeerStopped(round_id=1, cause="asked"))), "left"),
        ((*AT_WORK, (T0 + 30, events.PeerRestarting(cause="killed", wait_s=9.0, restarts=1))), "not_heard"),
        ((started(PLANNED + 3), stepped(PLANNED + 4)), "not_heard"),
        (AT_WORK, "not_heard"),
    ],
)
def test_what_a_peer_did_when_the_round_was_planned_is_known_from_its_own_file(
    tale: tuple[tuple[float, Event], ...], kind: str, tmp_path: Path
) -> None:
    assert told(tmp_path, *tale).kind == kind


def test_who_died_and_was_never_heard_again_had_been_silent(tmp_path: Path) -> None:
    assert "had been silent for 20 s" in told(tmp_path, *AT_WORK).said


def test_when_the_plan_was_made_is_known_without_the_coordinators_file(tmp_path: Path) -> None:
    others = [one for one in LEADER if not isinstance(one[1], events.RoundPlanned)]
    repairs = (*AT_WORK, entered(PLANNED + 0.5, "repair"), entered(PLANNED + 9, "train", 3))
    assert told(tmp_path, *repairs, leader=others).kind == "repairing"


def test_a_round_in_progress_tells_what_was_given_up(tmp_path: Path) -> None:
    voided = events.AttemptVoided(round_id=4, attempt=0, cause="a stall")
    reason = told(tmp_path, started(T0), stepped(T0 + 99, 4), leader=[*LEADER, (T0 + 99, voided)], round_id=4)
    assert reason.kind == "voided"
    assert "attempt 0: a stall" in reason.said
    assert "has trained on 8 sequences in it" in reason.said


# A monitor's history


def watched(path: Path, heard: Iterable[tuple[float, Record]]) -> HistoryInquiry:
    swarm = Swarm(RUN, 1000)
    with History(path, RUN, 1000) as history:
        for at, record in sorted(heard, key=lambda one: one[0]):
            swarm.take(record, at)
            history.note(swarm.picture(at), at_once=True)
    return HistoryInquiry(Replay.open(path))


def a_watch(*of_the_last: tuple[float, Record]) -> list[tuple[float, Record]]:
    """Three peers do round 2, and a monitor hears them and the last peer."""
    heard: list[tuple[float, Record]] = []
    for peer in range(3):
        for at, phase in ((BEGUN, "train"), (T0 + 35, "wait"), (PLANNED, "reduce"), (PLANNED + 4, "attest")):
            head = FIRST.digest()
            heard.append(
                (at + peer / 100, beat(peer, 2, at + peer / 100, phase=Phase(phase), head_digest=head))
            )
        done = PLANNED + 6 + peer / 100
        heard.append((done, beat(peer, 3, done, head_digest=SECOND.digest())))
    commit = commit_of(SECOND, KEYS[0], seq=int(1000 * (PLANNED + 5)))
    heard += [(PLANNED + 5, commit), (PLANNED + 5, plan_of(SECOND, seq=int(1000 * PLANNED)))]
    heard += [(PLANNED + 5, receipt_of(commit, key)) for key in KEYS[:3]]
    first = commit_of(FIRST, KEYS[0], seq=int(1000 * BEGUN))
    heard += [(BEGUN, first), *((BEGUN, receipt_of(first, key)) for key in KEYS)]
    return [*heard, *of_the_last]


@pytest.mark.parametrize(
    ("heard", "kind"),
    [
        ([beat(3, 2, T0 + 12, head_digest=FIRST.digest())], "not_heard"),
        ([beat(3, 2, PLANNED - 1, phase=Phase.REPAIR)], "repairing"),
        ([beat(3, 2, PLANNED - 1, samples=0, inner_step=0)], "trained_nothing"),
        ([beat(3, 1, PLANNED - 1)], "behind"),
        ([beat(3, 2, PLANNED - 1, phase=Phase.LEAVE)], "left"),
        ([beat(3, 2, PLANNED - 1), beat(3, 2, PLANNED + 1)], "not_heard"),
        ([beat(3, 2, PLANNED + 20)], "not_heard"),
    ],
)
def test_what_a_monitor_saw_of_a_peer_is_told(heard: list[Record], kind: str, tmp_path: Path) -> None:
    inquiry = watched(tmp_path / "watch.sqlite", a_watch(*((record.seq / 1000, record) for record in heard)))
    assert inquiry.height == 2
    assert explain(LATE, 2, inquiry.evidence(LATE, 2)).kind == kind
    assert explain(IDS[0], 2, inquiry.evidence(IDS[0], 2)).kind == "credited"


def test_a_monitor_knows_whom_members_blamed(tmp_path: Path) -> None:
    failed = plan_of(SECOND, roster=tuple(IDS), samples=(8,) * 4, attempt=0, seq=int(1000 * (T0 + 30)))
    blame = receipt_of(commit_of(SECOND, KEYS[0]), KEYS[1]).model_copy(
        update={
            "attempt": 0,
            "complete": False,
            "blamed": LATE,
            "plan_digest": failed.digest(),
            "weights_digest": "",
            "momentum_digest": "",
        }
    )
    inquiry = watched(tmp_path / "watch.sqlite", a_watch((T0 + 30, failed), (T0 + 31, blame)))
    reason = explain(LATE, 2, inquiry.evidence(LATE, 2))
    assert reason.kind == "failed"
    assert "(attempt 0)" in reason.said


def test_a_history_is_opened_by_its_path(tmp_path: Path) -> None:
    watched(tmp_path / "watch.sqlite", a_watch())
    with open_inquiry(tmp_path / "watch.sqlite", [], []) as inquiry:
        assert inquiry.height == 2
        assert explain(IDS[0], 3, inquiry.evidence(IDS[0], 3)).kind == "not_committed"
        assert explain(IDS[0], 9, inquiry.evidence(IDS[0], 9)).kind == "not_begun"


# A board


def board(*more: Record) -> PresentInquiry:
    commit = commit_of(SECOND, KEYS[0], seq=int(1000 * (PLANNED + 5)))
    others = [beat(peer, 3, PLANNED + 8, head_digest=SECOND.digest()) for peer in range(3)]
    receipts = [receipt_of(commit, key) for key in KEYS[:3]]
    plan = plan_of(SECOND, seq=int(1000 * PLANNED))
    return PresentInquiry(RUN, [commit, *receipts, plan, *others, *more])


def on_board(peer: str, round_id: int, *more: Record) -> Reason:
    return explain(peer, round_id, board(*more).evidence(peer, round_id))


def test_a_board_tells_of_the_last_round_and_the_present_one() -> None:
    assert board().height == 2
    assert on_board(IDS[0], 2).kind == "credited"
    assert on_board(IDS[0], 3).kind == "not_committed"
    assert on_board(LATE, 2).kind == "untold"
    assert on_board("somebody", 2).kind == "unknown_peer"


@pytest.mark.parametrize(
    ("heard", "kind"),
    [
        (beat(3, 2, PLANNED - 20), "not_heard"),
        (beat(3, 2, PLANNED - 1, phase=Phase.REPAIR), "repairing"),
        (beat(3, 1, PLANNED + 7), "behind"),
        (beat(3, 2, PLANNED - 1, head_digest="0f" * 32), "other_head"),
        (beat(3, 3, PLANNED + 8), "untold"),
    ],
)
def test_a_board_tells_what_a_peer_that_has_not_gone_on_did(heard: Record, kind: str) -> None:
    assert on_board(LATE, 2, heard).kind == kind


def test_a_board_tells_whom_receipts_blame_while_they_are_there() -> None:
    other = receipt_of(commit_of(SECOND, KEYS[0]), KEYS[1]).model_copy(
        update={"attempt": 0, "complete": False, "blamed": LATE, "weights_digest": "", "momentum_digest": ""}
    )
    reason = on_board(LATE, 2, other)
    assert (reason.kind, reason.blamed_by) == ("failed", (IDS[1],))


def test_a_board_tells_who_waits_for_its_turn() -> None:
    crowd = tuple(sorted(f"{LATE[:-4]}{number:04}" for number in range(1000, 1000 + MAX_MEMBERS)))
    full = plan_of(THIRD).model_copy(update={"roster": crowd, "samples": (8,) * MAX_MEMBERS})
    assert on_board(LATE, 3, beat(3, 3, PLANNED + 8), full).kind == "waits_for_turn"


def test_an_earlier_round_needs_somebody_to_ask() -> None:
    with pytest.raises(PacelineError, match="nobody is there who could tell of round 1"):
        board().evidence(LATE, 1)


def test_before_the_first_commit_the_founders_are_known() -> None:
    inquiry = PresentInquiry(RUN, [])
    assert (inquiry.height, inquiry.known) == (0, frozenset(IDS))
    assert explain(LATE, 1, inquiry.evidence(LATE, 1)).kind == "not_committed"
