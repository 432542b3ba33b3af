"""How an all-reduce cuts its vector, and what an order may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.network.butterfly import ReduceOrder, Slices

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
