"""How an all-reduce cuts its vector, and what an order may say."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.tuning import CodecName
from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.butterfly import PART_ELEMENTS, Arithmetic, ReduceOrder, Slices

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


@given(st.integers(0, 500), st.integers(1, 64), st.sampled_from([1, 2, 8, 64]), st.integers(1, 5))
def test_cuts_lie_at_multiples_of_the_grain_and_miss_no_element(
    num_elements: int, num_members: int, grain: int, grains_per_part: int
) -> None:
    slices = Slices(num_elements, num_members, grain * grains_per_part, grain)
    parts = [
        slices.part(member, part) for member in range(num_members) for part in range(slices.num_parts(member))
    ]
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(num_elements))
    assert all(part.start % grain == 0 for part in parts)
    sizes = [-(-(last - first) // grain) for first, last in map(slices.bounds, range(num_members))]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", get_args(CodecName))
def test_parts_are_cut_and_limited_as_the_codec_needs_it_on_both_ways(name: CodecName) -> None:
    codec = make_codec(name)
    arithmetic = Arithmetic(codec, weighted_mean)
    assert arithmetic.grain % codec.grain == arithmetic.grain % codec.back.grain == 0
    assert arithmetic.part_bytes >= codec.back.encoded_size(PART_ELEMENTS)
    if arithmetic.grain > 1:
        with pytest.raises(ValueError, match="can't be cut"):
            Arithmetic(codec, weighted_mean, arithmetic.grain // 2)


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
