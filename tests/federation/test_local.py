"""Claims about training within one process: it is the swarm's own training, without the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from paceline.core.config import (
    AdamWConfig,
    GptConfig,
    InnerConfig,
    NodeConfig,
    RunConfig,
    ScheduleConfig,
    SwarmConfig,
    TextData,
)
from paceline.core.errors import ConfigError
from paceline.core.events import Evaluated, Event, StepDone
from paceline.core.tuning import CodecName
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.local import LocalTrainingProvider
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig
from paceline.learning import checkpoint
from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import make_codec
from paceline.learning.data import open_corpus
from paceline.learning.flat import Flat, FlatView
from paceline.learning.inner import InnerTrainer, evaluate, resolve_device
from paceline.learning.model import build_model, num_parameters, parameter_shapes
from paceline.learning.outer import Digests, OuterState

MODEL = GptConfig(dim=32, layers=1, heads=2, seq_len=32)
ROUNDS, STEPS, NODES, BATCH = 3, 6, 3, 4


@pytest.fixture(autouse=True, scope="module")
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    lines = (f"line {n}: a rider of {n % 7} takes a turn at the front of the paceline\n" for n in range(4000))
    (path / "text.txt").write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def recipe(place: Path) -> SwarmConfig:
    run = RunConfig(
        name="small",
        inner_steps=STEPS,
        rounds=ROUNDS,
        expected_peers=NODES,
        model=MODEL,
        codec="fp32",
        inner=InnerConfig(optimizer=AdamWConfig(lr=1e-2), schedule=ScheduleConfig(warmup_steps=2)),
    )
    node = NodeConfig(
        device="cpu",
        threads=1,
        batch_size=BATCH,
        cache_dir=place / "cache",
        data=TextData(paths=(str(place / "text.txt"),)),
    )
    return SwarmConfig(run=run, node=node, peers=NODES)


def config_of(recipe: SwarmConfig, **changes: object) -> TrainingConfig:
    fields: dict[str, object] = {
        "model_name": recipe.run.name,
        "learning_rate": recipe.run.inner.optimizer.lr,
        "batch_size": recipe.node.batch_size,
        "local_steps": recipe.run.inner_steps,
        "global_rounds": recipe.run.rounds,
        "num_nodes": recipe.peers,
    }
    return TrainingConfig.model_validate(fields | changes)


class Watched(LocalTrainingProvider):
    """Keeps what every node stood on after every round, and what passed through."""

    def __init__(self, recipe: SwarmConfig, folder: Path | None = None) -> None:
        super().__init__(recipe, folder)
        self.states: list[GlobalState] = []
        self.stood_on: list[dict[str, Digests]] = [self.digests()]

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        super().receive_state(state, nodes)
        self.states.append(state)
        self.stood_on.append(self.digests())


@pytest.fixture(scope="module")
def trained(recipe: SwarmConfig) -> Iterator[Watched]:
    with Watched(recipe) as provider:
        result = DiLoCoCoordinator().run_training(config_of(recipe), provider.nodes, provider)
        assert result.rounds_completed == ROUNDS
        assert result.total_samples == ROUNDS * NODES * STEPS * BATCH
        yield provider


def test_after_every_round_all_nodes_stand_on_the_same_bits(trained: Watched) -> None:
    rounds = [set(digests.values()) for digests in trained.stood_on]
    assert [len(found) for found in rounds] == [1] * (ROUNDS + 1)
    assert len(set.union(*rounds)) == ROUNDS + 1  # and on others than before


def test_the_loss_falls_in_training_and_on_held_out_data(trained: Watched) -> None:
    losses = [state.avg_loss for state in trained.states]
    assert all(later < earlier for earlier, later in pairwise(losses))
    held_out = [trained.val_losses[round_id] for round_id in range(ROUNDS + 1)]
    assert all(later < earlier for earlier, later in pairwise(held_out))
    assert held_out[0] == pytest.approx(math.log(256), rel=0.02)
    assert trained.val_loss == held_out[-1]


def test_the_same_recipe_and_node_ids_leave_the_same_bits(recipe: SwarmConfig, trained: Watched) -> None:
    with Watched(recipe) as again:
        DiLoCoCoordinator().run_training(config_of(recipe), again.nodes, again)
        assert again.stood_on == trained.stood_on
        assert again.val_losses == trained.val_losses
    others = LocalTrainingProvider(recipe, node_ids=["a", "b", "c"])
    assert train_once(others).digests()["a"] != trained.stood_on[1]["node-001"]


def train_once(provider: LocalTrainingProvider) -> LocalTrainingProvider:
    coordinator, nodes = DiLoCoCoordinator(), provider.nodes
    state = coordinator.run_round(GlobalState(round_id=0), updates_of(provider))
    provider.receive_state(state, nodes)
    return provider


def updates_of(provider: LocalTrainingProvider, round_id: int = 1) -> list[LocalUpdate]:
    return provider.get_updates(round_id, GlobalState(round_id=round_id - 1), provider.nodes)


@pytest.mark.parametrize(("name", "warm"), [*((name, 0) for name in get_args(CodecName)), ("topk", 1)])
def test_what_a_codec_loses_is_lost_here_as_in_a_swarm(
    name: CodecName, warm: int, recipe: SwarmConfig
) -> None:
    node = recipe.node
    changed = {"codec": name, "codec_warmup": {"codec": "int8", "rounds": warm}}
    run = RunConfig.model_validate(recipe.run.model_dump() | changed)
    corpus = open_corpus(node.data, node.cache_dir, seq_len=MODEL.seq_len)
    device = resolve_device(node.device)
    models = [build_model(MODEL, run.seed) for _ in range(NODES)]
    trainers = [InnerTrainer(model, run, node, device) for model in models]
    anchor = np.empty(num_parameters(MODEL), np.float32)
    FlatView(models[0]).read(anchor)
    outer = OuterState(anchor, np.zeros_like(anchor), run.outer)
    owed = [np.zeros_like(anchor) for _ in range(NODES)]
    with Watched(recipe.model_copy(update={"run": run})) as provider:
        DiLoCoCoordinator().run_training(config_of(recipe), provider.nodes, provider)
    for round_id in range(1, ROUNDS + 1):
        sent: list[Flat] = []
        codec = make_codec("int8" if round_id <= warm else name)
        for number, (model, trainer) in enumerate(zip(models, trainers, strict=True)):
            FlatView(model).write(outer.anchor)
            stream = corpus.stream(run.seed, f"node-{number + 1:03d}", round_id)
            for step in range(STEPS):
                trainer.step([stream.batch(BATCH, MODEL.seq_len)], (round_id - 1) * STEPS + step)
            local = np.empty_like(anchor)
            FlatView(model).read(local)
            due = outer.anchor - local + np.float32(codec.feedback or 0) * owed[number]
            sent.append(codec.decode(codec.encode(due), due.size))
            owed[number] = due - sent[-1] if codec.feedback is not None else np.zeros_like(due)
        mean = weighted_mean(sent, (1,) * NODES)
        digests = outer.apply(codec.back.decode(codec.back.encode(mean), mean.size))
        assert set(provider.stood_on[round_id].values()) == {digests}
    FlatView(models[0]).write(outer.anchor)
    held_out = corpus.held_out_batches(node.eval_batches, BATCH, MODEL.seq_len)
    assert provider.val_loss == evaluate(models[0], held_out, device)


def test_nodes_that_were_left_out_of_the_mean_owe_what_they_owed_before(recipe: SwarmConfig) -> None:
    run = recipe.run.model_copy(update={"codec": "topk"})
    left_out: list[LocalUpdate] = []
    none_left: list[LocalUpdate] = []
    for told, later in ((["node-001"], left_out), ([f"node-{n:03d}" for n in (1, 2, 3)], none_left)):
        with LocalTrainingProvider(recipe.model_copy(update={"run": run})) as provider:
            state = DiLoCoCoordinator().run_round(GlobalState(round_id=0), updates_of(provider))
            provider.receive_state(state.model_copy(update={"participating_nodes": told}), provider.nodes)
            later.extend(updates_of(provider, round_id=2))
    same = [
        all(np.array_equal(one.gradients[name], other.gradients[name]) for name in one.gradients)
        for one, other in zip(left_out, none_left, strict=True)
    ]
    assert same == [True, False, False]


def test_the_coordinator_holds_the_mean_by_parameter_name(trained: Watched) -> None:
    for state in trained.states:
        assert list(state.global_weights) == list(parameter_shapes(MODEL))
        assert all(np.asarray(vector).dtype == np.float32 for vector in state.global_weights.values())


def test_the_last_checkpoint_holds_what_the_nodes_stand_on(trained: Watched) -> None:
    assert trained.checkpoint is not None
    loaded = checkpoint.load(trained.checkpoint)
    assert loaded.info.round_id == ROUNDS
    found = Digests(loaded.info.weights_digest, loaded.info.momentum_digest)
    assert set(trained.digests().values()) == {found}


def test_a_state_that_went_through_json_gives_the_same_bits(recipe: SwarmConfig, trained: Watched) -> None:
    with LocalTrainingProvider(recipe) as provider:
        updates_of(provider)
        written = trained.states[0].model_dump_json()
        provider.receive_state(GlobalState.model_validate_json(written), provider.nodes)
        assert provider.digests() == trained.stood_on[1]


def test_a_state_of_tensors_gives_the_same_bits(recipe: SwarmConfig, trained: Watched) -> None:
    vectors = trained.states[0].global_weights
    tensors = {name: torch.tensor(np.asarray(vector)) for name, vector in vectors.items()}
    with LocalTrainingProvider(recipe) as provider:
        updates_of(provider)
        state = GlobalState.model_validate({"round_id": 1, "global_weights": tensors})
        provider.receive_state(state, provider.nodes)
        assert provider.digests() == trained.stood_on[1]


def test_every_step_and_evaluation_is_told(recipe: SwarmConfig) -> None:
    told: list[tuple[str, Event]] = []
    with LocalTrainingProvider(recipe, tell=lambda node_id, event: told.append((node_id, event))) as provider:
        train_once(provider)
    steps = [(node_id, e.inner_step) for node_id, e in told if isinstance(e, StepDone)]
    assert steps == [(f"node-{n:03d}", step) for n in range(1, NODES + 1) for step in range(1, STEPS + 1)]
    assert [event.round_id for _, event in told if isinstance(event, Evaluated)] == [0, 1]


def test_asked_again_for_a_round_the_nodes_report_the_same_again(recipe: SwarmConfig) -> None:
    with LocalTrainingProvider(recipe) as provider:
        first, second = updates_of(provider), updates_of(provider)
        for one, other in zip(first, second, strict=True):
            assert (one.loss, one.samples_used) == (other.loss, other.samples_used)
            for name in one.gradients:
                assert np.array_equal(one.gradients[name], other.gradients[name])


def test_a_state_that_arrives_twice_is_taken_once(recipe: SwarmConfig, trained: Watched) -> None:
    coordinator = DiLoCoCoordinator()
    with LocalTrainingProvider(recipe) as provider:
        for node in provider.nodes:
            coordinator.connect(node.node_id, lambda state: provider.receive_state(state, []))
        coordinator.run_training(config_of(recipe, global_rounds=1), provider.nodes, provider)
        assert provider.digests() == trained.stood_on[1]


def test_nodes_that_do_not_train_take_the_outer_step_all_the_same(recipe: SwarmConfig) -> None:
    with LocalTrainingProvider(recipe) as provider:
        before = provider.digests()
        some = provider.nodes[:2]
        coordinator = DiLoCoCoordinator()
        coordinator.run_training(config_of(recipe, global_rounds=2), some, provider)
        assert coordinator.credit_tracker.all_credits() == {node.node_id: 2 * STEPS * BATCH for node in some}
        assert len(set(provider.digests().values())) == 1
        assert provider.digests() != before


def test_training_stops_early_when_the_rounds_of_the_run_are_done(recipe: SwarmConfig) -> None:
    with LocalTrainingProvider(recipe) as provider:
        result = DiLoCoCoordinator().run_training(
            config_of(recipe, global_rounds=ROUNDS + 5), provider.nodes, provider
        )
    assert result.rounds_completed == ROUNDS


def test_a_recipe_made_of_a_training_config_trains_the_same(recipe: SwarmConfig, trained: Watched) -> None:
    with LocalTrainingProvider.from_config(config_of(recipe), recipe) as provider:
        assert provider.run == recipe.run
        assert train_once(provider).digests() == trained.stood_on[1]


def test_nodes_whose_every_step_goes_bad_report_nothing_and_training_stops(recipe: SwarmConfig) -> None:
    optimizer = AdamWConfig(lr=1e30)
    run = recipe.run.model_copy(
        update={"inner": recipe.run.inner.model_copy(update={"optimizer": optimizer})}
    )
    node = recipe.node.model_copy(update={"nan_patience": 2})
    told: list[str] = []
    wild = SwarmConfig(run=run, node=node, peers=2)
    with LocalTrainingProvider(wild, tell=lambda _, event: told.append(event.name)) as provider:
        before = provider.digests()
        result = DiLoCoCoordinator().run_training(config_of(wild), provider.nodes, provider)
        assert (result.rounds_completed, result.total_samples) == (0, 0)
        assert provider.digests() == before
    assert {"StepDone", "StepSkipped", "WentBackToAnchor"} <= set(told)


def test_nodes_that_the_provider_does_not_have_are_named(recipe: SwarmConfig) -> None:
    strangers = [FederatedNode(node_id=name, address="elsewhere") for name in ("node-001", "mole", "ghost")]
    with LocalTrainingProvider(recipe) as provider, pytest.raises(ValueError, match="'mole', 'ghost'"):
        provider.get_updates(1, GlobalState(round_id=0), strangers)


def test_a_round_that_the_nodes_are_not_in_is_refused(recipe: SwarmConfig) -> None:
    with LocalTrainingProvider(recipe) as provider:
        with pytest.raises(ValueError, match="round 2, where the nodes are in round 1"):
            updates_of(provider, round_id=2)
        with pytest.raises(ValueError, match="round 5, where the nodes are in round 1"):
            provider.receive_state(GlobalState(round_id=5), provider.nodes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"final_norm.weight": None}, "nothing under 'final_norm.weight', where the model needs 32 values"),
        ({"bias": [0.0, 0.0]}, "2 values under 'bias', which the model does not know"),
        ({"final_norm.weight": [0.0]}, "1 values under 'final_norm.weight', where the model needs 32"),
        ({"final_norm.weight": [3e38] * 32}, "not finite"),
    ],
    ids=["missing", "unknown", "short", "too large"],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    recipe: SwarmConfig, trained: Watched, change: dict[str, list[float] | None], words: str
) -> None:
    changed = trained.states[0].global_weights | change
    weights = {name: vector for name, vector in changed.items() if vector is not None}
    with LocalTrainingProvider(recipe) as provider:
        updates_of(provider)
        before = provider.digests()
        state = GlobalState.model_validate({"round_id": 1, "global_weights": weights})
        with pytest.raises(ValueError, match=words):
            provider.receive_state(state, provider.nodes)
        assert provider.digests() == before
        provider.receive_state(trained.states[0], provider.nodes)
        assert provider.digests() == trained.stood_on[1]


def test_a_temporary_folder_goes_with_the_provider_and_a_named_one_stays(
    recipe: SwarmConfig, tmp_path: Path
) -> None:
    with LocalTrainingProvider(recipe) as provider:
        train_once(provider)
        temporary = provider.folder
        assert provider.checkpoint is not None
    assert not temporary.exists()
    forgotten = LocalTrainingProvider(recipe)
    temporary = forgotten.folder
    del forgotten
    assert not temporary.exists()
    with LocalTrainingProvider(recipe, tmp_path / "kept") as provider:
        train_once(provider)
    assert checkpoint.newest(tmp_path / "kept") is not None
    with pytest.raises(ConfigError, match="holds checkpoints of another training"):
        LocalTrainingProvider(recipe, tmp_path / "kept")


def test_node_ids_are_unique_and_at_least_one(recipe: SwarmConfig) -> None:
    for ids in (["a", "a"], []):
        with pytest.raises(ValueError, match="at least one"):
            LocalTrainingProvider(recipe, node_ids=ids)


def test_a_distributed_state_reaches_the_nodes_without_run_training_too(recipe: SwarmConfig) -> None:
    coordinator = DiLoCoCoordinator()
    with LocalTrainingProvider(recipe) as provider:
        state = GlobalState(round_id=0)
        for round_id in (1, 2):
            updates = provider.get_updates(round_id, state, provider.nodes)
            state = coordinator.run_round(state, updates)
            before = provider.digests()
            coordinator.distribute_state(state, provider.nodes)
            assert provider.digests() != before
        assert len(set(provider.digests().values())) == 1
