"""The mean of a round: factors, rounding, and what each type of float gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.learning.aggregate import shares, weighted_mean

WEIGHTS = st.lists(st.integers(0, 2**48), min_size=1, max_size=64).filter(any)


@given(WEIGHTS)
def test_factors_are_float32_and_add_up_to_one(weights: list[int]) -> None:
    factors = shares(weights, np.float32)
    assert all(factor.dtype == np.float32 for factor in factors)
    assert sum(map(float, factors)) == pytest.approx(1.0, abs=1e-6)


def test_a_mean_is_rounded_after_every_product_and_every_sum() -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(999, dtype=np.float32) for _ in range(5)]
    factors = shares((3, 1, 4, 1, 5), np.float32)
    mean = weighted_mean(inputs, (3, 1, 4, 1, 5))
    for element in range(999):
        total = np.float32(inputs[0][element] * factors[0])
        for values, factor in zip(inputs[1:], factors[1:], strict=True):
            total = np.float32(total + np.float32(values[element] * factor))
        assert mean[element] == total
    exact = np.average(np.stack(inputs).astype(np.float64), axis=0, weights=(3, 1, 4, 1, 5))
    np.testing.assert_allclose(mean, exact, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_mean_leaves_its_inputs_alone(kind: type[np.floating[Any]]) -> None:
    inputs = [np.ones(3, kind), np.full(3, 2, kind)]
    weighted_mean(inputs, (1, 1))
    assert [values.tolist() for values in inputs] == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_mean_has_the_type_of_its_inputs(kind: type[np.floating[Any]]) -> None:
    assert weighted_mean([None, np.ones(3, kind)], (0, 7)).dtype == kind


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_mean_of_one_is_a_copy(kind: type[np.floating[Any]]) -> None:
    values = np.array([0.1, -3.0, 1e-30], kind)
    mean = weighted_mean([values], (5,))
    np.testing.assert_array_equal(mean, values)
    assert not np.shares_memory(mean, values)


@given(st.integers(1, 64), st.integers(1, 2**30))
def test_in_float64_equal_values_are_their_own_mean(num_members: int, numerator: int) -> None:
    values = np.array([numerator / 1024])
    assert weighted_mean([values] * num_members, (1,) * num_members).tolist() == values.tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.data())
def test_in_float64_weights_count_as_so_many_equal_members(values: list[float], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)).filter(any))
    spread = [value for value, weight in zip(values, weights, strict=True) for _ in range(weight)]
    mean = weighted_mean([np.array([value]) for value in values], weights)
    assert mean.item() == pytest.approx(sum(spread) / len(spread), abs=1e-9)


def test_in_float64_a_mean_is_finite_though_the_sum_is_not() -> None:
    huge = np.array([1.7e308, -1.7e308, 1.0])
    assert weighted_mean([huge, huge, huge, huge], (1, 1, 1, 1)).tolist() == huge.tolist()


def test_a_sum_that_overflows_leaves_its_neighbours_exact() -> None:
    inputs = [np.array([1.7e308, value]) for value in (1e16, 1.0, -1e16)]
    assert weighted_mean(inputs, (1, 1, 1))[1] == (1e16 + 1.0 - 1e16) / 3
