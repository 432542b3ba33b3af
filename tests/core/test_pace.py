"""Claims about patience: with a slow line, and with stragglers."""

from __future__ import annotations

from paceline.core.config import PaceConfig
from paceline.core.pace import may_arrive, reduce_limit_s, straggler_deadline

PACE = PaceConfig(reduce_s=10)


def test_each_attempt_gets_twice_the_time_of_the_one_before_up_to_eight_times() -> None:
    assert [reduce_limit_s(PACE, attempt) for attempt in range(6)] == [10, 20, 40, 80, 80, 80]


def test_a_peer_far_too_slow_is_not_worth_waiting_for() -> None:
    assert may_arrive(trained_s=10, inner_step=90, of_steps=100, deadline_s=12)
    assert not may_arrive(trained_s=10, inner_step=25, of_steps=100, deadline_s=12)
    assert may_arrive(trained_s=10, inner_step=0, of_steps=100, deadline_s=12)


def test_nobody_waits_for_stragglers_longer_than_others_differ_from_each_other() -> None:
    alike, unlike = [10.0, 10.0, 10.0], [6.0, 10.0, 14.0]
    assert straggler_deadline(alike, 4) == 12.0
    assert straggler_deadline(unlike, 4) == 22.0


def test_no_deadline_is_set_before_half_of_the_peers_are_there() -> None:
    assert straggler_deadline([10.0], 3) is None
    assert straggler_deadline([], 1) is None
    assert straggler_deadline([10.0, 10.0], 4) == 12.0
