"""Claims about how ascending indices are coded."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.errors import BadPayload
from paceline.learning.codecs.gaps import (
    bitmap_size,
    pack_gaps,
    planes_size,
    refuse_bad_gaps,
    unpack_gaps,
)

WIDTHS = st.sampled_from([1, 2, 7, 8, 9, 64, 255, 300, 4096, 5000])


@given(seed=st.integers(0, 2**32), width=WIDTHS, share=st.floats(0, 1), shift=st.integers(0, 8))
def test_ascending_indices_come_back_from_as_many_bytes_as_were_promised(
    seed: int, width: int, share: float, shift: int
) -> None:
    places = np.flatnonzero(np.random.default_rng(seed).random(width) <= share)
    planes, bitmap = pack_gaps(places, shift, width)
    assert planes.size == planes_size(places.size, shift)
    assert bitmap.size == bitmap_size(places.size, shift, width)
    refuse_bad_gaps(planes, bitmap, places.size, shift, width)
    np.testing.assert_array_equal(unpack_gaps(planes, bitmap, places.size, shift), places)


@pytest.mark.parametrize("places", [[0], [4999], [0, 4999], list(range(100)), list(range(4900, 5000))])
@pytest.mark.parametrize("shift", range(9))
def test_the_bitmap_is_long_enough_wherever_indices_lie(places: list[int], shift: int) -> None:
    planes, bitmap = pack_gaps(np.array(places), shift, 5000)
    assert unpack_gaps(planes, bitmap, len(places), shift).tolist() == places


@pytest.mark.parametrize(("n", "shift", "width"), [(0, 3, 5), (1, 1, 9), (3, 1, 10), (5, 1, 12), (4, 0, 9)])
def test_each_set_of_indices_has_one_spelling_and_everything_else_is_refused(
    n: int, shift: int, width: int
) -> None:
    sizes = planes_size(n, shift), bitmap_size(n, shift, width)
    taken = set()
    for raw in product(range(256), repeat=sum(sizes)):
        planes, bitmap = np.split(np.array(raw, np.uint8), [sizes[0]])
        try:
            refuse_bad_gaps(planes, bitmap, n, shift, width)
        except BadPayload:
            continue
        places = unpack_gaps(planes, bitmap, n, shift)
        assert (np.diff(places, prepend=-1) > 0).all()
        assert (places < width).all()
        taken.add(tuple(places.tolist()))
        again = pack_gaps(places, shift, width)
        assert (again[0].tobytes(), again[1].tobytes()) == (planes.tobytes(), bitmap.tobytes())
    assert len(taken) == comb(width, n)
