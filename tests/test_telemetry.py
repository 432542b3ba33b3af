"""Events reach people as lines and programs as JSON, whatever happens to one of the sinks."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paceline.core import events
from paceline.core.events import (
    AttemptVoided,
    CoordinatorChanged,
    CreditsCounted,
    DonorDropped,
    DriftDetected,
    Evaluated,
    Event,
    PeerRestarting,
    PeerStarted,
    PeerStopped,
    PhaseChanged,
    QuorumMissing,
    ReduceEnded,
    RepairFailed,
    ResultStaged,
    RoundCommitted,
    RoundPlanned,
    RoundStalled,
    SetAside,
    StateFetched,
    StepDone,
    StepSkipped,
    WentBackToAnchor,
)
from paceline.core.nicknames import named
from paceline.telemetry import JsonlSink, LogSink, describe, fan_out
from paceline.telemetry.lines import _LINES
from tests.core.history import peers

ME, OTHER = (key.peer_id for key in peers(2))
REDUCED: dict[str, Any] = {
    "round_id": 3,
    "attempt": 1,
    "complete": True,
    "seconds": 1.25,
    "bytes_in": 2_000_000,
    "bytes_out": 3_500_000,
}
DONE = StepDone(round_id=3, inner_step=4, of_steps=20, loss=2.5, tokens=1024, seconds=0.5)
EXAMPLES: dict[str, Event] = {
    f"{named(ME)} is up in run demo-1, round 3: 1,200,000 weights on cpu, "
    "metrics at 127.0.0.1:9000": PeerStarted(
        peer_id=ME,
        run_id="demo-1",
        multiaddrs=("/ip4/127.0.0.1/tcp/1",),
        metrics_address="127.0.0.1:9000",
        round_id=3,
        parameters=1_200_000,
        device="cpu",
    ),
    "round 3: step 4 of 20, loss 2.500": DONE,
    "round 3: step 4 skipped, loss or gradient was not finite (2 in a row)": StepSkipped(
        round_id=3, inner_step=4, in_a_row=2
    ),
    "round 3: too many skipped steps, back to the anchor": WentBackToAnchor(round_id=3),
    "round 3: reduce": PhaseChanged(round_id=3, phase="reduce"),
    f"{named(OTHER)} is at the front in term 7": CoordinatorChanged(term=7, coordinator=OTHER, is_me=False),
    "this peer is at the front in term 8": CoordinatorChanged(term=8, coordinator=ME, is_me=True),
    "round 3: attempt 1 of term 7 planned with 4 members": RoundPlanned(
        round_id=3, term=7, attempt=1, members=4
    ),
    "round 3: attempt 1 averaged in 1.2 s (3.5 MB sent, 2.0 MB received)": ReduceEnded(**REDUCED),
    f"round 3: attempt 1 failed after 1.2 s: a stream stood still (blamed: {named(OTHER)})": ReduceEnded(
        **{**REDUCED, "complete": False}, cause="a stream stood still", blamed=OTHER
    ),
    "round 3: attempt 1 failed after 1.2 s: incomplete": ReduceEnded(**{**REDUCED, "complete": False}),
    "round 3: result of attempt 1 on disk in 0.3 s": ResultStaged(round_id=3, attempt=1, seconds=0.31),
    "round 3: attempt 1 given up: two members are silent": AttemptVoided(
        round_id=3, attempt=1, cause="two members are silent"
    ),
    "round 3 committed: loss 2.500, 4 members, 1.5 s, commit abababab": RoundCommitted(
        round_id=3, loss=2.5, members=4, digest="ab" * 32, sync_s=1.5
    ),
    "round 3: validation loss 2.1000 nats per token": Evaluated(round_id=3, val_loss=2.1),
    "round 3: these weights (abababab) are not the committed ones (cdcdcdcd); repairing": DriftDetected(
        round_id=3, ours="ab" * 32, theirs="cd" * 32
    ),
    f"state of round 3 fetched: 9.6 MB from {named(ME)}, {named(OTHER)} in 0.5 s": StateFetched(
        round_id=3, size_bytes=9_600_000, seconds=0.5, donors=(ME, OTHER)
    ),
    "state could not be fetched, trying again: nobody has it": RepairFailed(cause="nobody has it"),
    f"{named(OTHER)} gave no usable state or history: chunk 3 is not what was committed": DonorDropped(
        peer_id=OTHER, cause="chunk 3 is not what was committed"
    ),
    "the run log is damaged; the old files are kept in runs/node/aside/1": SetAside(
        cause="the run log is damaged", folder="runs/node/aside/1"
    ),
    "waiting: 1 of the 3 peers that a round needs are here": QuorumMissing(got=1, needed=3),
    "round 3: no end after 140 s of waiting, though enough peers are here; "
    f"following {named(OTHER)} in term 7": RoundStalled(round_id=3, seconds=140.2, term=7, coordinator=OTHER),
    "round 3: no end after 170 s of waiting, though enough peers are here; "
    "following nobody in term 7": RoundStalled(round_id=3, seconds=170.2, term=7, coordinator=""),
    "round 3: 480 credits": CreditsCounted(round_id=3, balance=480),
    "stopped after round 3: finished": PeerStopped(round_id=3, cause="finished"),
    "ended: killed by SIGKILL; starts again in 2 s (restart 3)": PeerRestarting(
        cause="killed by SIGKILL", wait_s=2.1, restarts=3
    ),
}
KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_event_has_a_line_for_people(line: str) -> None:
    assert describe(EXAMPLES[line]) == line


def test_no_event_was_forgotten() -> None:
    assert set(_LINES) == set(KINDS)
    assert {type(event) for event in EXAMPLES.values()} == set(KINDS)


def test_an_event_of_somebody_elses_making_is_described_by_its_fields() -> None:
    class Surprise(Event):
        answer: int

    assert describe(Surprise(answer=42)) == 'Surprise {"answer":42}'


def test_what_another_peer_says_can_not_forge_a_line() -> None:
    said = AttemptVoided(round_id=3, attempt=0, cause="bad\n12:00:00 round 4 committed\x1b[2J")
    assert describe(said) == r"round 3: attempt 0 given up: bad\n12:00:00 round 4 committed\x1b[2J"


def test_a_line_bears_the_time_and_the_peer() -> None:
    lines: list[str] = []
    noon = time.mktime((2030, 1, 2, 12, 30, 5, 0, 0, -1))
    sink = LogSink(lines.append, label="a1b2c3", clock=lambda: noon)
    sink(QuorumMissing(got=1, needed=3))
    assert lines == ["12:30:05 a1b2c3 waiting: 1 of the 3 peers that a round needs are here"]


def test_steps_are_told_only_when_asked_for() -> None:
    lines: list[str] = []
    LogSink(lines.append)(DONE)
    assert lines == []
    LogSink(lines.append, steps=True)(DONE)
    assert len(lines) == 1


def test_lines_go_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    LogSink()(QuorumMissing(got=1, needed=3))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("waiting: 1 of the 3 peers that a round needs are here\n")


@pytest.mark.parametrize("event", EXAMPLES.values(), ids=lambda event: str(event.name))
def test_a_json_line_reads_back_as_the_event(tmp_path: Path, event: Event) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    with JsonlSink(path, clock=lambda: 1234.5) as sink:
        sink(event)
    fields = json.loads(path.read_text())
    assert fields.pop("time") == 1234.5
    assert fields.pop("name") == type(event).__name__
    assert type(event).model_validate(fields) == event


def test_a_json_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with JsonlSink(path) as sink:
        sink(DONE)
        assert len(path.read_text().splitlines()) == 1
        sink(AttemptVoided(round_id=1, attempt=0, cause="a\nb\u2028c\udc80"))
        assert len(path.read_text().splitlines()) == 2


def test_json_lines_are_appended_to_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        with JsonlSink(path) as sink:
            sink(DONE)
    path.write_bytes(path.read_bytes() + b'{"time": 1, "na')
    with JsonlSink(path) as sink:
        sink(DONE)
    lines = path.read_text().splitlines()
    assert [line.endswith("}") for line in lines] == [True, True, False, True]


def test_every_event_is_one_whole_line_from_whatever_thread_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    cause = "x" * 20_000  # more than any buffer

    def emit(sink: JsonlSink, number: int) -> None:
        for attempt in range(25):
            sink(AttemptVoided(round_id=number, attempt=attempt, cause=cause))

    with JsonlSink(path) as sink:
        threads = [threading.Thread(target=emit, args=(sink, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["round_id"], line["attempt"]) for line in found} == {
        (number, attempt) for number in range(4) for attempt in range(25)
    }
    assert len(found) == 100


def test_events_go_to_every_sink_in_order() -> None:
    seen: list[tuple[str, Event]] = []
    emit = fan_out(lambda event: seen.append(("one", event)), lambda event: seen.append(("two", event)))
    emit(DONE)
    assert seen == [("one", DONE), ("two", DONE)]
    fan_out()(DONE)


def test_a_sink_that_fails_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise OSError("no space left on device")

    emit = fan_out(broken, seen.append)
    emit(DONE)
    emit(DONE)
    assert seen == [DONE, DONE]
    assert capsys.readouterr().err.count("no space left on device") == 1
