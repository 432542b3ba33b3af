"""Claims about watching a swarm through its folder; here nobody runs, and what is read was written before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paceline.core.config import SwarmConfig
from paceline.core.errors import ConfigError, JoinError, SwarmStalled
from paceline.core.events import Evaluated, Event, PeerStarted, PeerStopped, RoundCommitted
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.models import FederatedNode, GlobalState, TrainingConfig
from paceline.federation.swarm import SwarmUpdateProvider
from paceline.peer.compose import create_run
from paceline.peer.folders import RunFolder
from paceline.telemetry import JsonlSink
from tests.federation.past import KEYS, RUN, Past

ROUNDS = 3
CONFIG = TrainingConfig(
    model_name="test", learning_rate=1e-3, batch_size=8, local_steps=1, global_rounds=ROUNDS, num_nodes=3
)


class Scene:
    """The folder of a local run, filled by hand."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.past = Past(ROUNDS)
        create_run(SwarmConfig(run=RUN, peers=len(KEYS)), path)
        self.states = [self.folder.peer(number) for number in range(1, len(KEYS) + 1)]

    def tell(self, number: int, *events: Event) -> None:
        with JsonlSink(self.states[number - 1].events) as sink:
            for event in events:
                sink(event)

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.tell(number, started(number), Evaluated(round_id=0, val_loss=5.5))

    def commit(self, round_id: int, *numbers: int) -> None:
        self.past.commit(round_id, *(self.states[number - 1] for number in numbers))
        for number in numbers:
            self.tell(number, committed(round_id), Evaluated(round_id=round_id, val_loss=5.5 - round_id))

    def watch(self, patience_s: float = 0.0) -> SwarmUpdateProvider:
        return SwarmUpdateProvider.of_folder(self.folder.path, patience_s=patience_s)


def started(number: int) -> PeerStarted:
    return PeerStarted(
        peer_id=KEYS[number - 1].peer_id,
        run_id=RUN.run_id,
        multiaddrs=("/ip4/127.0.0.1/tcp/4000",),
        metrics_address="127.0.0.1:9",
        round_id=1,
        parameters=1000,
        device="cpu",
    )


def committed(round_id: int) -> RoundCommitted:
    return RoundCommitted(round_id=round_id, loss=1.0, members=3, digest="0a" * 32, sync_s=0.1)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    for state in scene.states:
        state.path.mkdir()
    return scene


def test_a_run_on_disk_gives_its_rounds_once_more(scene: Scene) -> None:
    scene.start(1, 2, 3)
    for round_id in range(1, ROUNDS + 1):
        scene.commit(round_id, 1, 2, 3)
    coordinator = DiLoCoCoordinator()
    with scene.watch() as provider:
        assert [node.node_id for node in provider.nodes] == [key.peer_id for key in KEYS]
        result = coordinator.run_training(CONFIG, provider.nodes, provider)
        assert provider.val_losses == {0: 5.5, 1: 4.5, 2: 3.5, 3: 2.5}
        assert provider.val_loss == 2.5
    assert result.rounds_completed == ROUNDS
    assert coordinator.credit_tracker.all_credits() == {key.peer_id: 8 * ROUNDS for key in KEYS}


def test_an_update_carries_the_mean_the_samples_and_the_loss_of_the_receipt(scene: Scene) -> None:
    scene.start(1, 2, 3)
    scene.commit(1, 1)
    with scene.watch() as provider:
        updates = provider.get_updates(1, GlobalState(round_id=0), provider.nodes)
    assert [update.node_id for update in updates] == [key.peer_id for key in KEYS]
    assert [update.samples_used for update in updates] == [8, 8, 8]
    mean_loss = scene.past.states[1].avg_loss
    assert [update.loss for update in updates] == [2.5, 2.5, mean_loss]  # the third gave no receipt
    flat = np.concatenate([np.asarray(vector) for vector in updates[0].gradients.values()])
    np.testing.assert_allclose(flat, scene.past.means[0], rtol=1e-6)


def test_a_round_that_does_not_come_is_an_error_in_the_end(scene: Scene) -> None:
    scene.start(1, 2, 3)
    with scene.watch() as provider, pytest.raises(SwarmStalled, match="round 1 was not committed within 0 s"):
        provider.get_updates(1, GlobalState(round_id=0), provider.nodes)


def test_once_every_peer_has_ended_no_round_is_waited_for(scene: Scene) -> None:
    scene.start(1, 2, 3)
    for number in (1, 2, 3):
        scene.tell(number, PeerStopped(round_id=0, cause="asked"))
    with scene.watch(patience_s=600.0) as provider:
        assert set(provider.ended.values()) == {"asked to leave"}
        with pytest.raises(SwarmStalled, match=r"every peer has ended before round 1 .*asked to leave"):
            provider.get_updates(1, GlobalState(round_id=0), provider.nodes)


def test_nodes_that_do_not_arrive_are_named(scene: Scene) -> None:
    scene.start(1, 2, 3)
    scene.commit(1, 1, 3)
    late = KEYS[1].peer_id
    with scene.watch() as provider:
        nodes = provider.nodes
        provider.receive_state(GlobalState(round_id=1), [node for node in nodes if node.node_id != late])
        with pytest.raises(SwarmStalled, match=f"{late} did not arrive at round 1 within 0 s") as raised:
            provider.receive_state(GlobalState(round_id=1), nodes)
        assert KEYS[0].peer_id not in str(raised.value)


def test_peers_that_do_not_start_are_named(scene: Scene) -> None:
    scene.start(1, 3)
    with pytest.raises(SwarmStalled, match="peer-2 did not start within 0 s"):
        scene.watch().__enter__()
    scene.tell(2, PeerStopped(round_id=0, cause="asked"))
    with pytest.raises(JoinError, match="peer-2 ended: asked to leave"):
        scene.watch(patience_s=600.0).__enter__()
    assert list(scene.folder.path.glob(".followed-*")) == []


def test_rounds_come_in_order_and_none_after_the_last(scene: Scene) -> None:
    scene.start(1, 2, 3)
    for round_id in range(1, ROUNDS + 1):
        scene.commit(round_id, 1, 2, 3)
    nothing = GlobalState(round_id=0)
    with scene.watch() as provider:
        with pytest.raises(ValueError, match="round 2, where round 1 comes next"):
            provider.get_updates(2, nothing, [])
        provider.get_updates(1, nothing, [])
        with pytest.raises(ValueError, match="round 1, where round 2 comes next"):
            provider.get_updates(1, nothing, [])


def test_nodes_of_another_swarm_are_named(scene: Scene) -> None:
    scene.start(1, 2, 3)
    stranger = FederatedNode(node_id="mole", address="elsewhere")
    with scene.watch() as provider:
        with pytest.raises(ValueError, match="nodes that this swarm does not have: 'mole'"):
            provider.get_updates(1, GlobalState(round_id=0), [*provider.nodes, stranger])
        provider.receive_state(GlobalState(round_id=0), [stranger])


def test_a_folder_that_is_no_local_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json"):
        SwarmUpdateProvider.of_folder(tmp_path)
    create_run(SwarmConfig(run=RUN), tmp_path)
    with pytest.raises(ConfigError, match="is not the folder of a local run"):
        SwarmUpdateProvider.of_folder(tmp_path)


def test_outside_a_with_block_there_is_no_swarm_yet() -> None:
    provider = SwarmUpdateProvider(SwarmConfig())
    with pytest.raises(ConfigError, match="`with`"):
        provider.get_updates(1, GlobalState(round_id=0), [])
