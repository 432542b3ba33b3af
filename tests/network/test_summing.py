"""The mean of one part, whatever order the members' values come in."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from paceline.core.errors import BadPayload
from paceline.learning.aggregate import mean_factors, weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.butterfly import Arithmetic, Fault, Payload, ReduceOrder
from paceline.network.group import Group, Terms
from paceline.network.summing import PartSum
from tests.network.reduce_program import values

NUM_ELEMENTS = 3 * 8192
ROSTER = ("A", "B", "C")
ME = "B"


def _group(codec: str, weights: tuple[int, ...], *, growing: bool) -> Group:
    arithmetic = Arithmetic(make_codec(codec), weighted_mean, 8192, mean_factors if growing else None)  # type: ignore[arg-type]
    order = ReduceOrder("ab", ROSTER, weights, 1.0, 1.0, 1.0)
    return Group(order, Terms(ME, arithmetic, np.zeros(NUM_ELEMENTS, np.float32), None))  # type: ignore[arg-type]


def _inputs(codec: str, weights: tuple[int, ...]) -> dict[int, Payload]:
    drawn = {place: values(place, 8192) for place in range(3)}
    drawn[0][:9] = drawn[1][:9] = drawn[2][:9] = -0.0
    return {place: make_codec(codec).encode(drawn[place]) if weights[place] else b"" for place in drawn}  # type: ignore[arg-type]


async def _mean(codec: str, weights: tuple[int, ...], arrival: tuple[int, ...], *, growing: bool) -> bytes:
    group, inputs = _group(codec, weights, growing=growing), _inputs(codec, weights)
    if weights[1]:
        part = group.slices.part(1, 0)
        group.terms.buffer[part] = make_codec(codec).decode(inputs[1], 8192)  # type: ignore[arg-type]
    total, payload = PartSum(group, 0), None
    for place in arrival:
        total.put(place, inputs[place])
        if total.can_go_on():
            payload = total.go_on()
    assert payload is not None
    assert not total.can_go_on()
    stored: bytes = group.terms.buffer[group.slices.part(1, 0)].tobytes()
    return bytes(payload) + stored


@pytest.mark.parametrize("codec", ["fp32", "fp16", "int8", "topk"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 0, 3), (0, 2, 1), (3, 1, 0)])
def test_a_sum_that_grows_has_the_bits_of_the_aggregate_of_all_values_at_once(
    codec: str, weights: tuple[int, ...]
) -> None:
    found = {
        asyncio.run(_mean(codec, weights, arrival, growing=growing))
        for arrival in itertools.permutations((0, 2))
        for growing in (True, False)
    }
    assert len(found) == 1


def test_a_member_whose_values_are_none_is_named_however_late_they_are_looked_at() -> None:
    async def play() -> None:
        total = PartSum(_group("fp32", (1, 1, 1), growing=True), 0)
        total.put(2, b"rubbish")
        assert not total.can_go_on()
        total.put(0, _inputs("fp32", (1, 1, 1))[0])
        with pytest.raises(Fault, match="7 bytes") as raised:
            total.go_on()
        assert raised.value.blamed == "C"
        assert isinstance(raised.value.__cause__, BadPayload)

    asyncio.run(play())
