"""What an all-reduce computes: slices, factors, means, and what an order may say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.network.butterfly import ReduceOrder, Slices, shares, weighted_mean

GOOD = {"key": "ab", "roster": ("A", "B"), "weights": (1, 2), "start_s": 1.0, "stall_s": 1.0, "total_s": 1.0}


@given(st.integers(0, 500), st.integers(1, 64), st.integers(1, 40))
def test_every_element_lies_in_exactly_one_part(
    num_elements: int, num_members: int, part_elements: int
) -> None:
    slices = Slices(num_elements, num_members, part_elements)
    found = [
        element
        for member in range(num_members)
        for part in range(slices.num_parts(member))
        for element in range(*slices.part(member, part).indices(num_elements))
    ]
    assert found == list(range(num_elements))
    sizes = [last - first for first, last in map(slices.bounds, range(num_members))]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 2**48), min_size=1, max_size=64).filter(any))
def test_factors_are_float32_and_add_up_to_one(weights: list[int]) -> None:
    factors = shares(weights)
    assert all(factor.dtype == np.float32 for factor in factors)
    assert sum(map(float, factors)) == pytest.approx(1.0, abs=1e-6)


def test_a_mean_is_rounded_after_every_product_and_every_sum() -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(999, dtype=np.float32) for _ in range(5)]
    factors = shares((3, 1, 4, 1, 5))
    mean = weighted_mean(inputs, factors)
    for element in range(999):
        total = np.float32(inputs[0][element] * factors[0])
        for values, factor in zip(inputs[1:], factors[1:], strict=True):
            total = np.float32(total + np.float32(values[element] * factor))
        assert mean[element] == total
    exact = np.average(np.stack(inputs).astype(np.float64), axis=0, weights=(3, 1, 4, 1, 5))
    np.testing.assert_allclose(mean, exact, atol=1e-6)


def test_a_mean_leaves_its_inputs_alone() -> None:
    inputs = [np.ones(3, np.float32), np.full(3, 2, np.float32)]
    weighted_mean(inputs, shares((1, 1)))
    assert [values.tolist() for values in inputs] == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": "xyz"},
        {"key": "ab" * 33},
        {"roster": ()},
        {"roster": ("B", "A")},
        {"roster": ("A", "A")},
        {"weights": (1,)},
        {"weights": (1, -1)},
        {"stall_s": 0.0},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    ReduceOrder(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\w"):
        ReduceOrder(**{**GOOD, **wrong})  # type: ignore[arg-type]
