"""How many bytes an all-reduce takes, told from the codec and the mean alone; a live test compares."""

from __future__ import annotations

from collections.abc import Iterator

from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import Codec
from paceline.learning.flat import Flat
from paceline.network.butterfly import Arithmetic, Slices


def reduce_bytes(codec: Codec, mean: Flat, members: int) -> int:
    """Count what all members together send in one all-reduce.

    Args:
        codec: How values travel.
        mean: What they agree on, float32 `[num_elements]`, before it goes its way back.
        members: How many; each sends values.

    Returns:
        Bytes of parts: each slice's values from all but its reducer, and its mean to all of these.
    """
    each = (
        codec.encoded_size(p.stop - p.start) + len(codec.back.encode(mean[p]))
        for p in parts(codec, mean.size, members)
    )
    return sum(each) * (members - 1)


def parts(codec: Codec, num_elements: int, members: int) -> Iterator[slice]:
    """Cut a flat vector as a butterfly of these members does."""
    arithmetic = Arithmetic(codec, weighted_mean)
    slices = Slices(num_elements, members, arithmetic.part_elements, arithmetic.grain)
    for place in range(members):
        for index in range(slices.num_parts(place)):
            yield slices.part(place, index)


def ring_bytes(num_elements: int, members: int) -> int:
    """Count what all members of gloo's ring together send for one mean of float32."""
    return 2 * (members - 1) * 4 * num_elements
