"""The API page's examples, as printed there but for the package's name, each with what must come of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paceline import (
    CreditTracker,
    DiLoCoCoordinator,
    FederatedNode,
    GlobalState,
    HashVerifier,
    LocalUpdate,
    TrainingConfig,
    UpdateProvider,
)


class Halving(UpdateProvider):
    """Two values per node; the loss halves with every round."""

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        return [
            LocalUpdate(
                node_id=node.node_id,
                round_id=round_id,
                gradients={"weight": [1.0, 2.0]},
                loss=0.5**round_id,
                samples_used=32,
            )
            for node in nodes
        ]


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(
        model_name="my-model",
        learning_rate=0.0001,
        batch_size=32,
        local_steps=10,
        global_rounds=3,
        num_nodes=2,
    )


@pytest.fixture
def nodes() -> list[FederatedNode]:
    return [FederatedNode(node_id=f"node-00{i}", address=f"10.0.0.{i}:5000") for i in (1, 2)]


@pytest.fixture
def coordinator() -> DiLoCoCoordinator:
    return DiLoCoCoordinator()


@pytest.fixture
def update() -> LocalUpdate:
    return LocalUpdate(
        node_id="n1",
        round_id=1,
        gradients={"weight": [0.01, -0.02], "bias": [0.001]},
        loss=0.5,
        samples_used=64,
    )


def test_a_federated_node() -> None:
    from paceline import FederatedNode

    node = FederatedNode(
        node_id="node-001",
        address="10.0.0.1:5000",
        capabilities={"gpu": True, "ram_gb": 32},
        status="idle",
    )

    assert node.model_dump() == {
        "node_id": "node-001",
        "address": "10.0.0.1:5000",
        "capabilities": {"gpu": True, "ram_gb": 32},
        "status": "idle",
    }


def test_a_training_config() -> None:
    from paceline import TrainingConfig

    config = TrainingConfig(
        model_name="bert-small",
        learning_rate=1e-4,
        batch_size=32,
        local_steps=10,
        global_rounds=20,
        num_nodes=4,
    )

    assert (config.model_name, config.learning_rate, config.global_rounds) == ("bert-small", 1e-4, 20)


def test_a_local_update() -> None:
    from paceline import LocalUpdate

    update = LocalUpdate(
        node_id="node-001",
        round_id=1,
        gradients={
            "weight": [0.01, -0.02, 0.005],
            "bias": [0.001],
        },
        loss=0.4312,
        samples_used=128,
    )

    assert update.gradients == {"weight": [0.01, -0.02, 0.005], "bias": [0.001]}
    assert LocalUpdate.model_validate_json(update.model_dump_json()) == update


def test_a_global_state() -> None:
    from paceline import GlobalState

    state = GlobalState(
        round_id=3,
        global_weights={"weight": [0.005, -0.01], "bias": [0.0005]},
        participating_nodes=["node-001", "node-002"],
        avg_loss=0.3821,
    )

    assert state.global_weights == {"weight": [0.005, -0.01], "bias": [0.0005]}
    assert state.participating_nodes == ["node-001", "node-002"]
    assert (state.round_id, state.avg_loss) == (3, 0.3821)


def test_a_training_result(
    coordinator: DiLoCoCoordinator,
    config: TrainingConfig,
    nodes: list[FederatedNode],
    capsys: pytest.CaptureFixture[str],
) -> None:
    provider = Halving()

    # Typically received from run_training:
    result = coordinator.run_training(config, nodes, provider)

    print(f"Final loss:       {result.final_loss:.4f}")
    print(f"Rounds completed: {result.rounds_completed}")
    print(f"Total samples:    {result.total_samples}")
    print(f"Duration:         {result.duration_seconds:.3f}s")

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Final loss:       0.1250", "Rounds completed: 3", "Total samples:    192"]
    assert lines[3].startswith("Duration:         0.")


def test_averaging() -> None:
    # fmt: off
    from paceline import GradientAverager, LocalUpdate

    averager = GradientAverager()

    updates = [
        LocalUpdate(
            node_id="n1", round_id=1,
            gradients={"weight": [1.0, 2.0], "bias": [0.1]},
            loss=0.5, samples_used=64,
        ),
        LocalUpdate(
            node_id="n2", round_id=1,
            gradients={"weight": [3.0, 4.0], "bias": [0.3]},
            loss=0.3, samples_used=64,
        ),
    ]

    averaged = averager.average(updates)
    # {"bias": [0.2], "weight": [2.0, 3.0]}
    # fmt: on

    assert averaged == {"bias": [0.2], "weight": [2.0, 3.0]}
    assert list(averaged) == ["bias", "weight"]


def test_hashing_and_verifying(update: LocalUpdate) -> None:
    from paceline import HashVerifier

    verifier = HashVerifier()

    grads = {"bias": [0.001], "weight": [0.01, -0.02]}
    digest = verifier.compute_hash(grads)
    # e.g. "a3f1c2d8..."  (64-char hex string)

    assert len(digest) == 64
    assert int(digest, 16) >= 0
    assert digest == digest.lower()

    digest = verifier.compute_hash(update.gradients)
    assert verifier.verify(update, digest) is True
    assert verifier.verify(update, "deadbeef" * 8) is False


def test_tracking_credits() -> None:
    from paceline import CreditTracker

    tracker = CreditTracker()

    # fmt: off
    tracker.record_contribution("node-001", samples=128, round_id=1)
    tracker.record_contribution("node-001", samples=64,  round_id=2)
    tracker.record_contribution("node-002", samples=256, round_id=1)

    tracker.get_credits("node-001")   # 192
    tracker.get_credits("node-999")   # 0  (unknown node)
    tracker.all_credits()             # {"node-001": 192, "node-002": 256}
    # fmt: on

    assert tracker.get_credits("node-001") == 192
    assert tracker.get_credits("node-999") == 0
    assert tracker.all_credits() == {"node-001": 192, "node-002": 256}


def test_initializing(config: TrainingConfig, nodes: list[FederatedNode]) -> None:
    from paceline import DiLoCoCoordinator

    coordinator = DiLoCoCoordinator()

    state = coordinator.initialize(config, nodes)
    assert state.round_id == 0
    assert state.avg_loss == 0.0

    assert state.global_weights == {}
    assert state.participating_nodes == ["node-001", "node-002"]


def test_running_a_round(
    coordinator: DiLoCoCoordinator, config: TrainingConfig, nodes: list[FederatedNode], update: LocalUpdate
) -> None:
    state, updates = coordinator.initialize(config, nodes), [update]

    new_state = coordinator.run_round(state, updates)
    assert new_state.round_id == state.round_id + 1
    coordinator.distribute_state(new_state, nodes)

    assert new_state.global_weights == {"bias": [0.001], "weight": [0.01, -0.02]}


def test_running_the_training(
    coordinator: DiLoCoCoordinator,
    config: TrainingConfig,
    nodes: list[FederatedNode],
    capsys: pytest.CaptureFixture[str],
) -> None:
    my_provider = Halving()

    result = coordinator.run_training(config, nodes, my_provider)
    print(f"Final loss: {result.final_loss:.4f} over {result.rounds_completed} rounds")
    print(f"Samples processed: {result.total_samples}")

    assert capsys.readouterr().out == "Final loss: 0.1250 over 3 rounds\nSamples processed: 192\n"


def test_asking_for_the_credits_after_training(
    coordinator: DiLoCoCoordinator,
    config: TrainingConfig,
    nodes: list[FederatedNode],
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator.run_training(config, nodes, Halving())

    credits = coordinator.credit_tracker.all_credits()  # noqa: A001
    for node_id, samples in sorted(credits.items()):
        print(f"{node_id}: {samples} samples")

    assert capsys.readouterr().out == "node-001: 96 samples\nnode-002: 96 samples\n"
    assert isinstance(coordinator.credit_tracker, CreditTracker)


def test_hashing_through_the_coordinator(coordinator: DiLoCoCoordinator, update: LocalUpdate) -> None:
    digest = coordinator.hash_verifier.compute_hash(update.gradients)

    assert digest == HashVerifier().compute_hash(update.gradients)


def test_a_provider_of_ones_own(
    coordinator: DiLoCoCoordinator, config: TrainingConfig, nodes: list[FederatedNode]
) -> None:
    from paceline import UpdateProvider, LocalUpdate, GlobalState, FederatedNode  # noqa: F401, I001

    class MyProvider(UpdateProvider):
        def get_updates(  # type: ignore[empty-body]
            self,
            round_id: int,
            state: GlobalState,
            nodes: list[FederatedNode],
        ) -> list[LocalUpdate]:
            # Compute or retrieve real gradient updates here.
            ...

    assert coordinator.run_training(config, nodes, MyProvider()).rounds_completed == 0


def test_the_config_file(tmp_path: Path) -> None:
    text = """{
  "model_name": "my-model",
  "learning_rate": 0.0001,
  "batch_size": 32,
  "local_steps": 10,
  "global_rounds": 20,
  "num_nodes": 4
}"""

    assert TrainingConfig.model_validate_json(text).model_dump() == json.loads(text)


def test_computing_a_hash_from_a_file(
    tmp_path: Path, update: LocalUpdate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "update.json").write_text(update.model_dump_json())
    monkeypatch.chdir(tmp_path)

    import json
    import pathlib

    from paceline import HashVerifier, LocalUpdate

    data = json.loads(pathlib.Path("update.json").read_text())
    u = LocalUpdate.model_validate(data)
    print(HashVerifier().compute_hash(u.gradients))

    assert HashVerifier().verify(update, capsys.readouterr().out.strip())


def test_all_exports() -> None:
    # fmt: off
    # isort: off
    from paceline import (
        # Models
        FederatedNode,
        TrainingConfig,
        LocalUpdate,
        GlobalState,
        TrainingResult,
        # Core classes
        GradientAverager,
        HashVerifier,
        CreditTracker,
        DiLoCoCoordinator,
        UpdateProvider,
    )

    import paceline
    print(paceline.__version__)  # "0.1.0"
    # isort: on
    # fmt: on

    assert paceline.__version__ == "0.1.0"
    models = (FederatedNode, TrainingConfig, LocalUpdate, GlobalState, TrainingResult)
    classes = (GradientAverager, HashVerifier, CreditTracker, DiLoCoCoordinator, UpdateProvider)
    assert {kind.__name__ for kind in (*models, *classes)} <= set(paceline.__all__)
