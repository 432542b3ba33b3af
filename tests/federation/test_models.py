"""Fields of the models: which are required, their bounds, their defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError

import paceline.core.records
from paceline import FederatedNode, GlobalState, LocalUpdate, TrainingConfig, TrainingResult

CONFIG: dict[str, Any] = {
    "model_name": "m",
    "learning_rate": 0.1,
    "batch_size": 1,
    "local_steps": 1,
    "global_rounds": 1,
    "num_nodes": 1,
}
UPDATE: dict[str, Any] = {
    "node_id": "n1",
    "round_id": 0,
    "gradients": {},
    "loss": -1.0,
    "samples_used": 0,
}
RESULT: dict[str, Any] = {
    "config": CONFIG,
    "final_loss": 0.0,
    "rounds_completed": 0,
    "total_samples": 0,
    "duration_seconds": 0.0,
}
LEAST: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (FederatedNode, {"node_id": "n1", "address": "host:1"}),
    (TrainingConfig, CONFIG),
    (LocalUpdate, UPDATE),
    (GlobalState, {"round_id": 0}),
    (TrainingResult, RESULT),
]


@pytest.mark.parametrize(("model", "least"), LEAST, ids=lambda part: getattr(part, "__name__", ""))
def test_the_least_that_is_required_is_enough_and_no_less(
    model: type[BaseModel], least: dict[str, Any]
) -> None:
    model.model_validate(least)
    for name in least:
        with pytest.raises(ValidationError, match=name):
            model.model_validate({key: value for key, value in least.items() if key != name})


@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "local_steps", "global_rounds", "num_nodes"])
@pytest.mark.parametrize("value", [0, -1])
def test_every_number_of_a_config_is_positive(name: str, value: int) -> None:
    with pytest.raises(ValidationError, match=name):
        TrainingConfig.model_validate({**CONFIG, name: value})


@pytest.mark.parametrize(
    ("model", "least", "name"),
    [
        (LocalUpdate, UPDATE, "round_id"),
        (LocalUpdate, UPDATE, "samples_used"),
        (GlobalState, {}, "round_id"),
        (TrainingResult, RESULT, "rounds_completed"),
        (TrainingResult, RESULT, "total_samples"),
        (TrainingResult, RESULT, "duration_seconds"),
    ],
)
def test_counts_and_durations_are_not_negative(
    model: type[BaseModel], least: dict[str, Any], name: str
) -> None:
    assert getattr(model.model_validate({**least, name: 0}), name) == 0
    with pytest.raises(ValidationError, match=name):
        model.model_validate({**least, name: -1})


def test_defaults_are_those_of_the_page() -> None:
    node = FederatedNode(node_id="n1", address="host:1")
    assert (node.capabilities, node.status) == ({}, "idle")
    state = GlobalState(round_id=0)
    assert (state.global_weights, state.participating_nodes, state.avg_loss) == ({}, [], 0.0)


def test_the_status_of_a_node_changes_as_it_goes() -> None:
    node = FederatedNode(node_id="n1", address="host:1")
    node.status = "training"
    assert node.status == "training"
    with pytest.raises(ValidationError, match="status"):
        node.status = None  # type: ignore[assignment]


@pytest.mark.parametrize("make", [np.float32, torch.tensor], ids=["arrays", "tensors"])
def test_updates_and_states_with_equal_vectors_are_equal_in_whatever_form(make: Any) -> None:
    def pair(vector: Any) -> tuple[LocalUpdate, GlobalState]:
        update = LocalUpdate.model_validate({**UPDATE, "gradients": {"w": vector}})
        return update, GlobalState(round_id=1, global_weights={"w": vector})

    assert pair(make([1.0, 2.0])) == pair(make([1.0, 2.0])) == pair([1.0, 2.0])
    for one, other in zip(pair(make([1.0, 2.0])), pair(make([1.0, 3.0])), strict=True):
        assert one != other


def test_no_two_instances_share_a_default() -> None:
    FederatedNode(node_id="n1", address="").capabilities["gpu"] = True
    GlobalState(round_id=0).global_weights["weight"] = [1.0]
    assert FederatedNode(node_id="n2", address="").capabilities == {}
    assert GlobalState(round_id=0).global_weights == {}


def test_the_global_state_is_the_record_that_a_swarm_commits() -> None:
    assert GlobalState is paceline.core.records.GlobalState
    documented = {"round_id", "global_weights", "participating_nodes", "avg_loss"}
    fields = GlobalState.model_fields
    assert [name for name in fields if fields[name].is_required()] == ["round_id"]
    assert documented <= set(fields)
