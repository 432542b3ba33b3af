"""Events for weeks, in two files that stay small, and nothing lost to whoever follows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.core.events import Event, StepDone
from paceline.peer.tail import EventTail
from paceline.telemetry import JsonlSink

MAX_BYTES = 1000


def step(number: int) -> StepDone:
    return StepDone(round_id=1, inner_step=number, of_steps=1000, loss=2.5, tokens=64, seconds=0.5)


def steps(events: list[Event]) -> list[int]:
    return [event.inner_step for event in events if isinstance(event, StepDone)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def read(tail: EventTail) -> list[int]:
    return steps([told.event for told in tail.read()])


def test_weeks_of_events_take_no_more_than_two_files_of_the_size_that_was_allowed(path: Path) -> None:
    for start in range(0, 400, 100):  # as many starts of a peer
        with JsonlSink(path, max_bytes=MAX_BYTES) as sink:
            for number in range(start, start + 100):
                sink(step(number))
                assert all(file.stat().st_size <= MAX_BYTES for file in path.parent.iterdir())
    older = path.with_name("events.jsonl.1")
    assert set(path.parent.iterdir()) == {path, older}
    kept = read(EventTail(older)) + read(EventTail(path))
    assert kept == list(range(kept[0], 400))
    assert older.stat().st_size > MAX_BYTES / 2


def test_an_event_larger_than_a_file_is_written_all_the_same(path: Path) -> None:
    with JsonlSink(path, max_bytes=10) as sink:
        sink(step(1))
        sink(step(2))
    assert read(EventTail(path.with_name("events.jsonl.1"))) == [1]
    assert read(EventTail(path)) == [2]


def test_events_go_on_when_somebody_has_removed_their_file(path: Path) -> None:
    with JsonlSink(path, max_bytes=MAX_BYTES) as sink:
        sink(step(0))
        path.unlink()
        for number in range(1, 100):
            sink(step(number))
    assert read(EventTail(path))[-1] == 99


def test_whoever_follows_the_events_misses_none_when_their_file_is_renamed(path: Path) -> None:
    tail, seen = EventTail(path), []
    with JsonlSink(path, max_bytes=MAX_BYTES) as sink:
        for number in range(200):
            sink(step(number))
            if number % 3 == 0:
                seen += read(tail)
    assert seen + read(tail) == list(range(200))


def test_whoever_looks_away_for_too_long_goes_on_with_what_is_kept(path: Path) -> None:
    tail = EventTail(path)
    with JsonlSink(path, max_bytes=MAX_BYTES) as sink:
        sink(step(0))
        assert read(tail) == [0]
        for number in range(1, 200):
            sink(step(number))
        assert read(tail)[-1] == 199
        sink(step(200))
    assert read(tail)[-1] == 200


def test_a_file_that_was_emptied_is_followed_from_its_beginning(path: Path) -> None:
    tail = EventTail(path)
    with JsonlSink(path) as sink:
        sink(step(0))
        sink(step(1))
    assert read(tail) == [0, 1]
    path.write_bytes(b"")
    with JsonlSink(path) as sink:
        sink(step(2))
    assert read(tail) == [2]


@pytest.mark.parametrize("time", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_an_event_at_a_time_that_is_none_is_passed_over(path: Path, time: str) -> None:
    with JsonlSink(path) as sink:
        sink(step(1))
    head, _, rest = path.read_text().partition(",")
    assert head.startswith('{"time":')
    path.write_text(f'{{"time":{time},{rest}{head},{rest}')
    assert read(EventTail(path)) == [1]
