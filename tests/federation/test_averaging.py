"""The mean of updates, compared with a plain Python reference, in every form that a vector has."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paceline import GradientAverager, LocalUpdate
from paceline.learning.aggregate import weighted_mean

VALUES = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=8)
F32 = partial(np.array, dtype=np.float32)


def update(node_id: str, **gradients: Any) -> LocalUpdate:
    return LocalUpdate(node_id=node_id, round_id=1, gradients=gradients, loss=0.0, samples_used=1)


def updates_of(reports: Sequence[dict[str, Any]]) -> list[LocalUpdate]:
    return [update(f"n{place}", **report) for place, report in enumerate(reports)]


def average(*reports: dict[str, Any]) -> dict[str, Any]:
    return GradientAverager().average(updates_of(reports))


def in_plain_python(reports: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """In the page's words: missing keys as zeros of the first reporter's length, keys sorted."""
    mean = {}
    for name in sorted({name for report in reports for name in report}):
        length = next(len(report[name]) for report in reports if name in report)
        rows = [report.get(name, [0.0] * length) for report in reports]
        mean[name] = [reduce(add, column) / len(reports) for column in zip(*rows, strict=True)]
    return mean


@st.composite
def reports(draw: st.DrawFn, values: st.SearchStrategy[float] = VALUES) -> list[dict[str, list[float]]]:
    lengths = draw(st.dictionaries(NAMES, st.integers(0, 5), max_size=4))
    vectors = {name: st.lists(values, min_size=size, max_size=size) for name, size in lengths.items()}
    return draw(st.lists(st.fixed_dictionaries({}, optional=vectors), min_size=1, max_size=12))


@given(reports())
def test_the_mean_is_that_of_plain_python(reported: list[dict[str, list[float]]]) -> None:
    ours, theirs = average(*reported), in_plain_python(reported)
    assert list(ours) == list(theirs)
    for name, due in theirs.items():
        assert len(ours[name]) == len(due)
        for value, reference in zip(ours[name], due, strict=True):
            # Where the reference's sum overflows, ours is near the mean all the same.
            assert value == reference if math.isfinite(reference) else math.isfinite(value)


@given(reports(st.floats(-1e100, 1e100)), st.sampled_from([np.array, torch.tensor]))
def test_arrays_and_tensors_of_float64_average_like_lists(
    reported: list[dict[str, list[float]]], kind: Any
) -> None:
    wide = {np.array: np.float64, torch.tensor: torch.float64}[kind]
    ours = average(*({key: kind(row, dtype=wide) for key, row in report.items()} for report in reported))
    assert {name: vector.tolist() for name, vector in ours.items()} == average(*reported)


@given(reports(st.floats(-(2.0**100), 2.0**100, width=32)))
def test_float32_averages_to_the_bits_of_a_swarms_round(reported: list[dict[str, list[float]]]) -> None:
    narrow = [{name: np.array(row, np.float32) for name, row in report.items()} for report in reported]
    ours, weights = average(*narrow), (1,) * len(narrow)
    for name, mean in ours.items():
        assert mean.dtype == np.float32
        np.testing.assert_array_equal(mean, weighted_mean([report.get(name) for report in narrow], weights))


def test_an_empty_list_is_refused_in_the_words_of_the_page() -> None:
    with pytest.raises(ValueError, match=r"^Cannot average an empty list of updates\.$"):
        GradientAverager().average([])


def test_who_does_not_report_a_key_counts_as_zeros() -> None:
    assert average({"a": [3.0, 6.0]}, {}, {"b": [9.0]}) == {"a": [1.0, 2.0], "b": [3.0]}


def test_ten_ones_average_to_one() -> None:
    assert average(*[{"a": [1.0]}] * 10) == {"a": [1.0]}


def test_what_averages_lists_gives_lists_and_what_averages_arrays_gives_an_array() -> None:
    in_lists = average({"a": [1.0]}, {"a": [2.0]})["a"]
    assert type(in_lists) is list
    assert type(in_lists[0]) is float
    for rows, kind in [
        ((F32([1]), F32([2])), np.float32),
        ((torch.tensor([1.0]), F32([2])), np.float32),
        ((np.array([1], np.float16), torch.tensor([2.0], dtype=torch.bfloat16)), np.float32),
        ((np.array([1.0]), F32([2])), np.float64),
        (([1.0], F32([2])), np.float64),
        ((torch.tensor([1.0], requires_grad=True), torch.tensor([2.0])), np.float32),
        ((np.array([1.0], ">f4"), np.array([2.0], ">f8")), np.float64),
    ]:
        mean = average(*({"a": row} for row in rows))["a"]
        assert isinstance(mean, np.ndarray)
        assert (mean.dtype, mean.tolist()) == (kind, [1.5])


@pytest.mark.parametrize("num_nodes", [1, 2])
@pytest.mark.parametrize("kind", [list, F32, np.array, torch.tensor])
def test_the_mean_shares_no_memory_with_the_updates(kind: Any, num_nodes: int) -> None:
    given_ones = [kind([1.0, 2.0]) for _ in range(num_nodes)]
    updates = updates_of([{"a": vector} for vector in given_ones])
    mean = GradientAverager().average(updates)["a"]
    mean[0] = 9.0
    assert [list(each.gradients["a"]) for each in updates] == [[1.0, 2.0]] * num_nodes


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_vectors_of_different_length_are_refused_by_key_nodes_and_lengths(kind: Any) -> None:
    message = r"^'w' has 3 values at node 'n1' and 2 at node 'n2'$"
    with pytest.raises(ValueError, match=message):
        average({}, {"w": kind([1.0, 2.0, 3.0])}, {"w": kind([1.0, 2.0])})


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_value_spoilt_after_the_update_was_made_is_found(kind: Any) -> None:
    updates = updates_of([{"w": kind([1.0, 2.0])}, {"w": kind([1.0, 2.0])}])
    updates[1].gradients["w"][1] = float("nan")
    with pytest.raises(ValueError, match=r"^node 'n1': value 1 under 'w' is not finite$"):
        GradientAverager().average(updates)


def test_averaging_arrays_loads_no_torch() -> None:
    program = (
        "import sys, numpy\n"
        "from paceline import DiLoCoCoordinator, LocalUpdate\n"
        "given = {'gradients': {'w': numpy.ones(2)}, 'loss': 0, 'samples_used': 1}\n"
        "update = LocalUpdate(node_id='n', round_id=1, **given)\n"
        "DiLoCoCoordinator().collect_updates(1, [update])\n"
        "print(*{'torch', 'hivemind'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
