"""The protocol of the all-reduce between honest members, over socket pairs."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from paceline.learning.aggregate import weighted_mean
from tests.network.loopback import Loopback, loopback


def mean_of(swarm: Loopback, seeds: list[int], weights: tuple[int, ...]) -> np.ndarray:
    inputs = []
    for member, seed, weight in zip(swarm.members, seeds, weights, strict=True):
        member.fill(seed)
        length = len(member.terms.buffer)
        through = swarm.codec.decode(swarm.codec.encode(member.terms.buffer), length)
        inputs.append(through if weight else None)
    mean = weighted_mean(inputs, weights)
    return swarm.codec.back.decode(swarm.codec.back.encode(mean), len(mean))


@pytest.mark.parametrize("codec", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "weights", [(1,), (3,), (2, 1), (0, 1), (5, 3, 2, 7), (0, 0, 1, 4), (2**40, 1, 1, 1, 1)]
)
def test_all_members_hold_the_mean_that_one_process_computes(codec: str, weights: tuple[int, ...]) -> None:
    with loopback(len(weights), codec) as swarm:
        expected = mean_of(swarm, list(range(len(weights))), weights)
        outcomes = asyncio.run(swarm.round(swarm.order(weights)))
        assert all(outcome.complete for outcome in outcomes), outcomes
        for member in swarm.members:
            np.testing.assert_array_equal(member.terms.buffer, expected)


@pytest.mark.parametrize("codec", ["bf16", "int8", "int4", "int2", "topk"])
@pytest.mark.parametrize("weights", [(2, 1), (0, 0, 1, 4), (5, 3, 2, 7)])
@pytest.mark.parametrize("num_elements", [40, 5 * 4096 + 77])
def test_slices_and_parts_do_not_show_in_what_a_codec_of_blocks_makes(
    codec: str, weights: tuple[int, ...], num_elements: int
) -> None:
    with loopback(len(weights), codec, num_elements=num_elements, part_elements=4096) as swarm:
        expected = mean_of(swarm, list(range(len(weights))), weights)
        outcomes = asyncio.run(swarm.round(swarm.order(weights)))
        assert all(outcome.complete for outcome in outcomes), outcomes
        for member in swarm.members:
            assert member.terms.buffer.tobytes() == expected.tobytes()


@pytest.mark.parametrize("num_elements", [1, 2, 3, 5, 63, 64, 65])
def test_a_vector_may_be_shorter_than_the_roster(num_elements: int) -> None:
    with loopback(4, num_elements=num_elements) as swarm:
        expected = mean_of(swarm, [1, 2, 3, 4], (1, 1, 1, 1))
        outcomes = asyncio.run(swarm.round(swarm.order()))
        assert all(outcome.complete for outcome in outcomes), outcomes
        for member in swarm.members:
            np.testing.assert_array_equal(member.terms.buffer, expected)
