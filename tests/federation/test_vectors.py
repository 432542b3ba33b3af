"""Lists, arrays and tensors in the models: what is taken as it is, what becomes a list, what is refused."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from paceline import GlobalState, LocalUpdate
from paceline.core.vectors import first_not_finite

KEPT = [
    np.array([0.5, -1.5]),
    np.array([0.5, -1.5], np.float32),
    np.array([0.5, -1.5], np.float16),
    np.arange(4, dtype=np.float32)[::2],
    torch.tensor([0.5, -1.5]),
    torch.tensor([0.5, -1.5], dtype=torch.float64),
    torch.tensor([0.5, -1.5], dtype=torch.bfloat16),
    torch.tensor([0.5, -1.5], requires_grad=True),
]


def update(vector: Any, node_id: str = "n1", loss: float = 0.5) -> LocalUpdate:
    return LocalUpdate(node_id=node_id, round_id=1, gradients={"weight": vector}, loss=loss, samples_used=8)


@pytest.mark.parametrize("vector", KEPT, ids=lambda vector: f"{type(vector).__name__}-{vector.dtype}")
def test_an_array_or_tensor_of_floats_stays_the_same_object(vector: Any) -> None:
    assert update(vector).gradients["weight"] is vector
    assert GlobalState(round_id=1, global_weights={"weight": vector}).global_weights["weight"] is vector


@pytest.mark.parametrize("vector", KEPT, ids=lambda vector: f"{type(vector).__name__}-{vector.dtype}")
def test_what_is_written_holds_lists(vector: Any) -> None:
    whole = update(vector)
    assert whole.model_dump()["gradients"] == {"weight": vector.tolist()}
    assert json.loads(whole.model_dump_json())["gradients"] == {"weight": vector.tolist()}


def test_a_state_with_arrays_is_the_state_with_the_same_lists() -> None:
    values = np.array([0.1, 0.2], np.float32)
    of_arrays = GlobalState(round_id=1, global_weights={"weight": values})
    assert of_arrays.digest() == GlobalState(round_id=1, global_weights={"weight": values.tolist()}).digest()


@pytest.mark.parametrize(
    "vector", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), ["1", 2.0]], ids=str
)
def test_other_numbers_become_floats(vector: Any) -> None:
    taken = update(vector).gradients["weight"]
    assert taken == [1.0, 2.0]
    assert [type(value) for value in taken] == [float, float]


def test_a_list_is_copied() -> None:
    given = [1.0, 2.0]
    taken = update(given)
    given[0] = 9.0
    assert taken.gradients == {"weight": [1.0, 2.0]}


@pytest.mark.parametrize(
    "vector", [np.zeros((2, 2)), torch.zeros(2, 2), np.array(1.0), [[1.0]], "text", None, 1.0, ["x"]], ids=str
)
def test_what_is_no_vector_is_refused(vector: Any) -> None:
    with pytest.raises(ValidationError, match="weight"):
        update(vector)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [list, np.array, np.float32, torch.tensor])
def test_an_update_that_is_not_finite_is_refused_by_node_and_key(wrong: float, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"node 'n7': value 1 of 3 under 'weight' is not finite"):
        update(kind([1.0, wrong, 2.0]), node_id="n7")
    with pytest.raises(ValueError, match="finite"):
        GlobalState(round_id=1, global_weights={"weight": kind([1.0, wrong, 2.0])})


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_by_node(wrong: float) -> None:
    with pytest.raises(ValueError, match="node 'n7' reports a loss that is not finite"):
        update([1.0], node_id="n7", loss=wrong)


@pytest.mark.parametrize("kind", [list, np.array, partial(torch.tensor, dtype=torch.float64)])
def test_values_whose_sum_overflows_are_finite_all_the_same(kind: Any) -> None:
    assert first_not_finite(kind([1.7e308, 1.7e308])) is None
    assert first_not_finite(kind([])) is None
    assert first_not_finite(kind([float("inf"), float("-inf")])) == 0
