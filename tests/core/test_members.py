"""Who takes part, in turns when there are too many, and how far a peer's word of its own work counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.members import MAX_OVER_MEDIAN, choose_members, most_sensible, sensible

samples = st.lists(st.one_of(st.integers(0, 500), st.integers(0, 2**48)), min_size=1, max_size=64)


@given(samples)
def test_no_members_weight_exceeds_sixteen_times_the_median(stated: list[int]) -> None:
    weights = sensible(stated)
    trained = [number for number in stated if number]
    assert MAX_OVER_MEDIAN == 16
    assert max(weights) <= (16 * median_low(trained) if trained else 0)
    assert max(weights) <= most_sensible(stated)


@given(samples)
def test_limiting_weights_only_takes_from_those_above_the_limit(stated: list[int]) -> None:
    weights, limit = sensible(stated), most_sensible(stated)
    assert len(weights) == len(stated)
    assert all(w == s if s <= limit else w == limit for w, s in zip(weights, stated, strict=True))
    assert [w > 0 for w in weights] == [s > 0 for s in stated]


@given(samples)
def test_a_plan_with_sensible_weights_is_always_accepted(stated: list[int]) -> None:
    # Members check a plan by the same rule, on the limited weights: those must pass as they are.
    weights = sensible(stated)
    assert max(weights) <= most_sensible(weights)
    assert sensible(weights) == weights


@given(st.lists(st.integers(1, 2**40), min_size=3, max_size=64), st.integers(0, 2**48))
def test_one_liar_among_honest_members_gets_no_more_than_sixteen_times_their_most(
    honest: list[int], lie: int
) -> None:
    *rest, weight = sensible([*honest, lie])
    assert weight <= 16 * max(honest)
    assert sum(rest) > 0


@pytest.mark.parametrize(
    ("stated", "weights"),
    [
        ((8, 8, 8, 8), (8, 8, 8, 8)),
        ((8, 8, 8, 2**48), (8, 8, 8, 128)),
        ((0, 0, 0, 5), (0, 0, 0, 5)),
        ((0, 0), (0, 0)),
        ((1, 16), (1, 16)),
        ((1, 17), (1, 16)),
        ((7,), (7,)),
    ],
)
def test_weights_are_limited_like_this(stated: tuple[int, ...], weights: tuple[int, ...]) -> None:
    assert sensible(stated) == weights


def names(count: int) -> list[str]:
    return [f"peer {number:04}" for number in range(count)]


def chosen(here: Iterable[str], electors: Iterable[str], **changes: object) -> list[str]:
    place = {"run_id": "run", "me": "peer 0000", "room": 64, "rotate": True} | changes
    return choose_members(set(here), set(electors), **place)  # type: ignore[arg-type]


@given(st.integers(1, 64), st.integers(0, 64))
def test_as_long_as_there_is_room_everybody_takes_part(count: int, num_electors: int) -> None:
    assert chosen(names(count), names(64)[:num_electors]) == names(count)


@pytest.mark.parametrize("count", [65, 70, 128, 300, 1000])
def test_too_many_take_turns_and_each_gets_one_within_a_bounded_number_of_rounds(count: int) -> None:
    roster, turns = set(names(64)), Counter[str]()
    lap = -(-(count - 64) // 16)
    for _ in range(lap + 5):
        before, roster = roster, set(chosen(names(count), roster))
        assert len(roster) == 64 and len(before & roster) >= 48 and "peer 0000" in roster
        turns.update(roster)
    assert set(turns) == set(names(count))


def test_turns_go_on_when_coordinators_change_and_peers_come_and_go() -> None:
    rng, here, roster, seen = Random(5), set(names(200)), set(names(64)), Counter[str]()
    steady = set(names(100))
    for turn in range(60):
        here ^= {rng.choice(names(240)[100:]) for _ in range(3)}
        me = names(100)[turn // 10]
        before, roster = roster, set(chosen(here, roster, me=me))
        assert len(roster) == 64 and len(before & roster) >= min(48, len(before & here))
        seen.update(roster)
    assert steady <= set(seen)


def test_nobody_leaves_a_roster_while_its_majority_is_in_danger_or_an_attempt_has_just_failed() -> None:
    electors, waiting = names(64), names(200)[64:]
    left = set(electors[:45])  # nineteen of them are gone
    members = set(chosen([*left, *waiting], electors))
    assert left <= members and len(members) == 64
    again = chosen([*electors, *waiting], electors, rotate=False)
    assert again == electors
