"""Claims about when a peer is started again, and how long that waits."""

from __future__ import annotations

import pytest

from paceline.core.restarts import LONG_LIFE_S, LONGEST_WAIT_S, Restarts, is_final


@pytest.mark.parametrize("code", [0, 2, 130])
def test_a_peer_that_is_done_or_needs_a_person_stays_down(code: int) -> None:
    assert is_final(code)


@pytest.mark.parametrize("code", [1, 3, -9, -15, -11, -6, 137])
def test_what_may_pass_is_tried_again(code: int) -> None:
    assert not is_final(code)


def waits(*lives: tuple[float, bool], chance: float = 0.0) -> list[float]:
    restarts = Restarts()
    return [restarts.wait_s(lived_s=lived, committed=committed, chance=chance) for lived, committed in lives]


def test_every_wait_is_twice_the_last_up_to_a_minute() -> None:
    assert waits(*[(5.0, False)] * 8) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize("good", [(5.0, True), (LONG_LIFE_S, False)])
def test_a_life_that_got_somewhere_makes_the_waits_begin_anew(good: tuple[float, bool]) -> None:
    assert waits((5.0, False), (5.0, False), (5.0, False), good, (5.0, False)) == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_peers_that_fell_together_do_not_rise_together() -> None:
    assert waits((5.0, False), chance=0.5) == [pytest.approx(1.05)]
    assert waits(*[(5.0, False)] * 10, chance=1.0)[-1] <= 1.1 * LONGEST_WAIT_S


def test_restarts_are_counted_from_the_first_life_on() -> None:
    restarts = Restarts()
    for _ in range(1000):
        restarts.wait_s(lived_s=LONG_LIFE_S, committed=True, chance=0.0)
    assert restarts.count == 1000
