"""What a peer says of its own work counts only as far as it is sensible."""

from __future__ import annotations

from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.coordination import MAX_OVER_MEDIAN, most_sensible, sensible

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
