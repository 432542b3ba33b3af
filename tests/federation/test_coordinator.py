"""The coordinator's rounds: what a state holds, what is refused, who is told, when training ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from paceline import (
    DiLoCoCoordinator,
    FederatedNode,
    GlobalState,
    LocalUpdate,
    TrainingConfig,
    UpdateProvider,
)
from paceline.core.credits import fold

NODES = [FederatedNode(node_id=node_id, address=f"{node_id}:1") for node_id in ("n2", "n1")]


def config(rounds: int = 3) -> TrainingConfig:
    return TrainingConfig(
        model_name="m", learning_rate=0.1, batch_size=4, local_steps=2, global_rounds=rounds, num_nodes=2
    )


def update(node_id: str, vector: Any = (1.0,), round_id: int = 1, **changes: Any) -> LocalUpdate:
    fields = {"gradients": {"w": vector}, "loss": 0.5, "samples_used": 8, **changes}
    return LocalUpdate(node_id=node_id, round_id=round_id, **fields)


class Recorded(UpdateProvider):
    """Answers `rounds` times, and remembers what it was asked and told."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.asked: list[tuple[int, GlobalState]] = []
        self.told: list[GlobalState] = []

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        assert nodes == NODES
        self.asked.append((round_id, state))
        if round_id > self.rounds:
            return []
        return [update(node.node_id, [float(round_id)], round_id, loss=1.0 / round_id) for node in nodes]

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        assert nodes == NODES
        self.told.append(state)


def test_a_state_holds_the_mean_the_losses_and_the_contributors() -> None:
    coordinator = DiLoCoCoordinator()
    state = coordinator.collect_updates(
        7,
        [
            update("n2", [1.0, 2.0], loss=0.5, samples_used=64),
            update("n1", [3.0, 4.0], loss=0.3, samples_used=32),
        ],
    )
    assert (state.round_id, state.global_weights) == (7, {"w": [2.0, 3.0]})
    assert (state.participating_nodes, state.samples, state.avg_loss) == (["n2", "n1"], [64, 32], 0.4)
    assert coordinator.credit_tracker.all_credits() == {"n1": 32, "n2": 64} == fold([state])
    assert coordinator.credit_tracker.history("n1") == [(7, 32)]


def test_no_updates_are_refused_in_the_words_of_the_page() -> None:
    with pytest.raises(ValueError, match=r"^No updates provided for aggregation\.$"):
        DiLoCoCoordinator().collect_updates(1, [])
    with pytest.raises(ValueError, match=r"^No updates provided for aggregation\.$"):
        DiLoCoCoordinator().run_round(GlobalState(round_id=0), [])


def test_an_update_may_name_another_round_than_the_coordinator() -> None:
    assert DiLoCoCoordinator().collect_updates(3, [update("n1", round_id=1)]).round_id == 3


def test_a_node_reports_once_in_a_round() -> None:
    coordinator = DiLoCoCoordinator()
    with pytest.raises(ValueError, match=r"^node 'n1' reports more than once in round 1$"):
        coordinator.collect_updates(1, [update("n1"), update("n2"), update("n1")])
    coordinator.collect_updates(1, [update("n1")])
    with pytest.raises(ValueError, match=r"^node 'n1' reports more than once in round 1$"):
        coordinator.collect_updates(1, [update("n2"), update("n1")])
    coordinator.collect_updates(1, [update("n2")])
    coordinator.collect_updates(2, [update("n1")])


def test_a_round_that_lies_behind_is_refused() -> None:
    coordinator = DiLoCoCoordinator()
    coordinator.collect_updates(4, [update("n1")])
    with pytest.raises(ValueError, match=r"round 3 lies behind round 4.*node 'n2'"):
        coordinator.collect_updates(3, [update("n2")])
    coordinator.initialize(config(), NODES)
    assert coordinator.collect_updates(1, [update("n1")]).round_id == 1


@pytest.mark.parametrize(
    ("round_id", "updates"),
    [
        (1, []),
        (0, [update("n1")]),
        (1, [update("n3"), update("n3")]),
        (1, [update("n2"), update("n3", [1.0, 2.0])]),
    ],
)
def test_a_refused_round_leaves_the_coordinator_as_it_was(round_id: int, updates: list[LocalUpdate]) -> None:
    coordinator = DiLoCoCoordinator()
    coordinator.collect_updates(1, [update("n1")])
    with pytest.raises(ValueError, match=r"\w"):
        coordinator.collect_updates(round_id, updates)
    assert coordinator.credit_tracker.all_credits() == {"n1": 8}
    assert coordinator.collect_updates(1, [update("n2"), update("n3")]).participating_nodes == ["n2", "n3"]


def test_a_states_vectors_are_no_references_to_the_updates() -> None:
    given = np.array([1.0, 2.0], np.float32)
    state = DiLoCoCoordinator().collect_updates(1, [update("n1", given)])
    given[0] = 9.0
    assert list(state.global_weights["w"]) == [1.0, 2.0]


def test_training_runs_all_rounds_from_1_on() -> None:
    provider, coordinator = Recorded(rounds=99), DiLoCoCoordinator()
    result = coordinator.run_training(config(3), NODES, provider)
    assert [round_id for round_id, _ in provider.asked] == [1, 2, 3]
    assert [state.round_id for _, state in provider.asked] == [0, 1, 2]
    assert provider.asked[0][1] == GlobalState(round_id=0, participating_nodes=["n2", "n1"])
    assert (result.config, result.rounds_completed) == (config(3), 3)
    assert (result.total_samples, result.final_loss) == (48, 1 / 3)
    assert result.duration_seconds == round(result.duration_seconds, 4) >= 0.0
    assert coordinator.credit_tracker.all_credits() == {"n1": 24, "n2": 24} == fold(provider.told)


@pytest.mark.parametrize(("rounds", "loss"), [(0, 0.0), (1, 1.0), (2, 0.5)])
def test_an_empty_list_stops_the_training_early(rounds: int, loss: float) -> None:
    result = DiLoCoCoordinator().run_training(config(9), NODES, Recorded(rounds))
    assert (result.rounds_completed, result.total_samples, result.final_loss) == (rounds, 16 * rounds, loss)


def test_a_coordinator_may_train_again_and_credits_go_on() -> None:
    coordinator = DiLoCoCoordinator()
    for _ in range(2):
        assert coordinator.run_training(config(2), NODES, Recorded(2)).rounds_completed == 2
    assert coordinator.credit_tracker.all_credits() == {"n1": 32, "n2": 32}


def test_every_round_is_distributed_to_the_provider_and_to_connected_nodes() -> None:
    provider, coordinator, received = Recorded(2), DiLoCoCoordinator(), list[GlobalState]()
    coordinator.connect("n1", received.append)
    coordinator.connect("stranger", received.append)
    coordinator.run_training(config(9), NODES, provider)
    assert [state.round_id for state in provider.told] == [1, 2]
    assert received == provider.told


def test_distributing_reaches_the_named_nodes_that_are_connected() -> None:
    coordinator, received = DiLoCoCoordinator(), list[tuple[str, GlobalState]]()
    for node in NODES:
        coordinator.connect(node.node_id, partial(_note, received, node.node_id))
    state = coordinator.collect_updates(1, [update("n1")])
    coordinator.distribute_state(state, [*NODES[1:], FederatedNode(node_id="n3", address="far")])
    assert received == [("n1", state)]


def _note(received: list[tuple[str, GlobalState]], node_id: str, state: GlobalState) -> None:
    received.append((node_id, state))


def test_a_provider_is_told_nothing_once_training_is_over() -> None:
    provider, coordinator = Recorded(1), DiLoCoCoordinator()
    coordinator.run_training(config(9), NODES, provider)
    coordinator.distribute_state(GlobalState(round_id=5), NODES)
    assert [state.round_id for state in provider.told] == [1]


def test_a_node_that_carries_its_way_with_it_is_reached_outside_of_training_too() -> None:
    received: list[tuple[str, GlobalState]] = []
    nodes = [
        FederatedNode(node_id=name, address="here").reached_by(partial(_note, received, name))
        for name in ("n1", "n2")
    ]
    coordinator = DiLoCoCoordinator()
    state = coordinator.run_round(coordinator.initialize(config(), nodes), [update("n1")])
    coordinator.distribute_state(state, [*nodes, FederatedNode(node_id="n3", address="far")])
    assert received == [("n1", state), ("n2", state)]
    assert nodes[0] == FederatedNode(node_id="n1", address="here")


def test_what_one_receiver_does_to_its_state_no_other_sees() -> None:
    coordinator, received = DiLoCoCoordinator(), list[GlobalState]()

    def spoil(state: GlobalState) -> None:
        received.append(state)
        state.global_weights["w"][0] = 99.0

    for node in NODES:
        coordinator.connect(node.node_id, spoil)
    state = coordinator.collect_updates(1, [update("n1", [1.0, 2.0])])
    coordinator.distribute_state(state, NODES)
    assert len(received) == len(NODES)
    assert state.global_weights == {"w": [1.0, 2.0]}


def test_an_update_for_an_earlier_round_than_its_nodes_last_one_is_refused() -> None:
    coordinator = DiLoCoCoordinator()
    coordinator.collect_updates(4, [update("n1", round_id=4)])
    with pytest.raises(ValueError, match=r"'n1'.* round 3, after one for round 4: \{'w': \d+\}"):
        coordinator.collect_updates(5, [update("n1", round_id=3)])
    assert coordinator.credit_tracker.history("n1") == [(4, update("n1").samples_used)]


def test_losses_whose_sum_is_too_large_still_have_a_mean() -> None:
    updates = [update(name, loss=1.7e308) for name in ("n1", "n2")]
    assert DiLoCoCoordinator().collect_updates(1, updates).avg_loss == 1.7e308


def test_a_provider_need_not_take_states() -> None:
    class Still(UpdateProvider):
        def get_updates(
            self, round_id: int, state: GlobalState, nodes: list[FederatedNode]
        ) -> list[LocalUpdate]:
            return [update("n1", round_id=round_id)]

    class Alike:
        get_updates = Still.get_updates

    alike: Any = Alike()
    for provider in (Still(), alike):
        assert DiLoCoCoordinator().run_training(config(2), NODES, provider).rounds_completed == 2


def test_the_base_provider_has_no_updates() -> None:
    with pytest.raises(NotImplementedError):
        UpdateProvider().get_updates(1, GlobalState(round_id=0), NODES)
    with pytest.raises(NotImplementedError):
        DiLoCoCoordinator().run_training(config(), NODES, UpdateProvider())
