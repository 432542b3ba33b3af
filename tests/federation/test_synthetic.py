"""Claims about synthetic updates."""

from __future__ import annotations

import numpy as np

from paceline.core.records import GlobalState
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.models import FederatedNode, LocalUpdate
from paceline.federation.synthetic import SyntheticProvider
from tests.federation.sessions import recipe

CONFIG = recipe(global_rounds=20)
NODES = [FederatedNode(node_id=f"n{number}", address="here") for number in range(4)]
START = GlobalState(round_id=0)


def vectors(updates: list[LocalUpdate]) -> list[list[float]]:
    return [[float(x) for vector in update.gradients.values() for x in vector] for update in updates]


def test_each_node_reports_every_parameter_its_samples_and_its_round() -> None:
    updates = SyntheticProvider(CONFIG, ("a", "b", "c"), 5).get_updates(7, START, NODES)
    assert [update.node_id for update in updates] == [node.node_id for node in NODES]
    for update in updates:
        assert {name: len(vector) for name, vector in update.gradients.items()} == {"a": 5, "b": 5, "c": 5}
        assert (update.round_id, update.samples_used) == (7, 10 * 4)


def test_a_rounds_updates_depend_on_nothing_but_the_seed_and_the_round() -> None:
    first = SyntheticProvider(CONFIG, seed=3)
    rounds = [vectors(first.get_updates(round_id, START, NODES)) for round_id in (1, 2, 3)]
    second = SyntheticProvider(recipe(learning_rate=9.0), seed=3)
    renamed = [FederatedNode(node_id=f"other-{number}", address="there") for number in range(4)]
    elsewhere = GlobalState(round_id=2, global_weights={"weight": [1.0]}, avg_loss=4.0)
    assert vectors(second.get_updates(3, elsewhere, renamed)) == rounds[2]
    assert vectors(SyntheticProvider(CONFIG, seed=4).get_updates(3, START, NODES)) != rounds[2]
    assert rounds[0] != rounds[1]


def test_nodes_differ_and_their_updates_look_gaussian() -> None:
    many = [FederatedNode(node_id=f"n{number}", address="here") for number in range(50)]
    drawn = np.array(vectors(SyntheticProvider(CONFIG, ("w",), 2000).get_updates(1, START, many)))
    noise = drawn - drawn.mean(axis=0)
    assert len({tuple(row) for row in drawn.tolist()}) == 50
    assert abs(drawn.mean()) < 0.1
    assert 0.9 < drawn.std() < 1.1
    within = np.mean(np.abs(noise) < noise.std())
    assert 0.67 < within < 0.695  # 0.683 of a Gaussian lies within one standard deviation


def test_the_loss_is_that_of_the_reported_point_and_falls_over_the_rounds() -> None:
    class Listening(SyntheticProvider):
        losses: list[float] = []  # noqa: RUF012 (of this test only)

        def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
            self.losses.append(state.avg_loss)

    provider = Listening(CONFIG)
    for update in provider.get_updates(2, START, NODES):
        (point,) = vectors([update])
        assert update.loss == np.mean(np.square(point)) / 2
    DiLoCoCoordinator().run_training(CONFIG, NODES, provider)
    losses = provider.losses
    assert len(losses) == 20
    assert losses[0] > 1.5 * losses[2] > 2 * losses[9] > 3 * losses[19] > 0
