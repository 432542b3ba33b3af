"""Claims about patience: with a slow line, and with stragglers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paceline.core.config import PaceConfig
from paceline.core.pace import closing_s, left_s, reduce_limit_s, straggler_deadline
from paceline.core.voice import Progress

PACE = PaceConfig(reduce_s=10)


def test_each_attempt_gets_twice_the_time_of_the_one_before_up_to_eight_times() -> None:
    assert [reduce_limit_s(PACE, attempt) for attempt in range(6)] == [10, 20, 40, 80, 80, 80]


def test_nobody_waits_for_stragglers_longer_than_others_differ_from_each_other() -> None:
    alike, unlike = [10.0, 10.0, 10.0], [6.0, 10.0, 14.0]
    assert straggler_deadline(alike, 4) == 12.0
    assert straggler_deadline(unlike, 4) == 22.0


def test_no_deadline_is_set_before_half_of_the_peers_are_there() -> None:
    assert straggler_deadline([10.0], 3) is None
    assert straggler_deadline([], 1) is None
    assert straggler_deadline([10.0, 10.0], 4) == 12.0


def test_training_closes_when_the_last_is_there_for_whom_the_others_would_wait() -> None:
    assert closing_s([10.0, 10.5, 11.0, 11.5]) == 11.5
    assert closing_s([10.0, 10.5, 11.0, 40.0]) == 11.0
    assert closing_s([10.0]) == 10.0


@given(st.lists(st.floats(min_value=0.1, max_value=1e4), min_size=1, max_size=64))
def test_training_never_closes_before_half_of_the_peers_are_there(arrivals: list[float]) -> None:
    closes = closing_s(arrivals)
    assert closes in arrivals
    assert 2 * sum(at <= closes for at in arrivals) >= len(arrivals)


def test_a_peers_next_steps_take_as_long_as_its_last_ones_did() -> None:
    assert left_s(Progress(inner_step=10, samples=40, samples_per_s=2.0), 5) == 10.0
    assert left_s(Progress(), 5) is None
