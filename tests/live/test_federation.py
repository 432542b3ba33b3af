"""Claims about the federated API over live peers: the same call, the same credits, the same training."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from paceline.core.config import SwarmConfig
from paceline.core.credits import fold
from paceline.core.events import Event, RoundCommitted, StateFetched
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.local import LocalTrainingProvider
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig, TrainingResult
from paceline.federation.parameters import flatten
from paceline.federation.swarm import SwarmUpdateProvider
from paceline.learning.checkpoint import load, newest
from paceline.learning.flat import FlatView
from paceline.learning.model import build_model
from paceline.learning.outer import OuterState
from paceline.ledger import VerifiedLog, verify
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.tail import EventTail
from tests.live.swarms import PATIENCE_S, children_of, commits_in, descendants, small_node, small_run

pytestmark = pytest.mark.live
PEERS, ROUNDS = 4, 6


def recipe(place: Path, peers: int = PEERS, rounds: int = ROUNDS) -> SwarmConfig:
    """Floats travel whole, so that a swarm loses no bit on the way."""
    node = small_node().model_copy(update={"state_dir": place, "eval_batches": 8})
    return SwarmConfig(
        run=small_run(rounds=rounds, codec="fp32", expected_peers=peers), node=node, peers=peers
    )


def config_of(swarm: SwarmConfig, rounds: int = ROUNDS) -> TrainingConfig:
    return TrainingConfig(
        model_name=swarm.run.name,
        learning_rate=swarm.run.inner.optimizer.lr,
        batch_size=swarm.node.batch_size,
        local_steps=swarm.run.inner_steps,
        global_rounds=rounds,
        num_nodes=swarm.peers,
    )


def states_of(folder: Path) -> dict[str, StateFolder]:
    return {path.name: StateFolder(path) for path in sorted(folder.glob("peer-*"))}


def until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 60
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


class Recorded(SwarmUpdateProvider):
    """Keeps what passes through, and who stood where when a state had been received."""

    def __init__(self, swarm: SwarmConfig) -> None:
        super().__init__(swarm, patience_s=PATIENCE_S)
        self.reported: list[list[LocalUpdate]] = []
        self.states: list[GlobalState] = []
        self.stood_on: list[dict[str, int]] = []

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        updates = super().get_updates(round_id, state, nodes)
        self.reported.append(updates)
        return updates

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        super().receive_state(state, nodes)
        self.states.append(state)
        places = {name: newest(place.checkpoints) for name, place in states_of(self.folder).items()}
        self.stood_on.append({name: int(path.stem[-6:]) for name, path in places.items() if path is not None})


@dataclass
class Driven:
    """A swarm that ran to its end under a coordinator."""

    swarm: SwarmConfig
    provider: Recorded
    coordinator: DiLoCoCoordinator
    nodes: list[FederatedNode]
    first_seen: list[LocalUpdate]
    result: TrainingResult
    processes: set[int] = field(default_factory=set)

    @property
    def logs(self) -> dict[Path, VerifiedLog]:
        logs = RunFolder(self.provider.folder).logs()
        return {path: verify(path) for path in logs}

    @property
    def commits(self) -> list[GlobalState]:
        return commits_in(next(iter(self.logs)))


@pytest.fixture(autouse=True, scope="module")
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """Four peers, driven to the end of their run; somebody else looks on for the first round."""
    swarm = recipe(tmp_path_factory.mktemp("driven"))
    before = descendants(os.getpid())
    coordinator = DiLoCoCoordinator()
    with Recorded(swarm) as provider:
        nodes = provider.nodes
        with SwarmUpdateProvider.of_folder(provider.folder, patience_s=PATIENCE_S) as onlooker:
            first_seen = onlooker.get_updates(1, GlobalState(round_id=0), onlooker.nodes)
        processes = descendants(os.getpid()) - before
        result = coordinator.run_training(config_of(swarm, ROUNDS + 3), nodes, provider)
    return Driven(swarm, provider, coordinator, nodes, first_seen, result, processes)


@pytest.fixture(scope="module")
def in_process(driven: Driven) -> Iterator[LocalTrainingProvider]:
    with LocalTrainingProvider(driven.swarm) as provider:
        DiLoCoCoordinator().run_training(config_of(driven.swarm), provider.nodes, provider)
        yield provider


def test_run_training_drives_a_live_swarm_to_the_end_of_its_run(driven: Driven) -> None:
    assert driven.result.rounds_completed == ROUNDS  # and then there are no more updates
    assert driven.provider.reported[-1] == []
    assert {log.rounds for log in driven.logs.values()} == {ROUNDS}
    assert len({log.head_digest for log in driven.logs.values()}) == 1
    losses = driven.provider.val_losses
    assert sorted(losses) == list(range(ROUNDS + 1))
    assert losses[ROUNDS] < 0.7 * losses[0]
    assert driven.provider.val_loss == losses[ROUNDS]


def test_the_coordinators_credits_are_the_swarms_fold_over_its_chain(driven: Driven) -> None:
    balances = driven.coordinator.credit_tracker.all_credits()
    assert len(driven.logs) == PEERS
    for log in driven.logs.values():
        assert balances == log.credits
    assert driven.result.total_samples == sum(balances.values())


def test_the_rounds_members_samples_and_losses_are_those_of_the_commits(driven: Driven) -> None:
    for commit, updates in zip(driven.commits, driven.provider.reported, strict=False):
        assert [update.node_id for update in updates] == commit.participating_nodes
        assert [update.samples_used for update in updates] == commit.samples
        weighted = sum(update.loss * update.samples_used for update in updates) / sum(commit.samples)
        assert weighted == pytest.approx(commit.avg_loss, rel=0.05)  # a straggler trains on after the plan


def test_the_coordinators_mean_is_what_the_peers_stepped_with(driven: Driven) -> None:
    run = driven.provider.run
    model = build_model(run.model, run.seed)
    view = FlatView(model)
    anchor = np.empty(view.num_elements, np.float32)
    view.read(anchor)
    outer = OuterState(anchor, np.zeros_like(anchor), run.outer)
    for state in driven.provider.states:
        outer.apply(flatten(run.model, state.global_weights))
    path = newest(states_of(driven.provider.folder)["peer-1"].checkpoints)
    assert path is not None
    reached = load(path)
    assert reached.info.round_id == ROUNDS
    np.testing.assert_allclose(outer.anchor, reached.anchor, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outer.momentum, reached.momentum, rtol=1e-4, atol=1e-5)


def test_a_state_is_received_once_every_peer_stands_on_its_round(driven: Driven) -> None:
    for round_id, places in enumerate(driven.provider.stood_on, start=1):
        assert sorted(places) == [f"peer-{number}" for number in range(1, PEERS + 1)]
        assert min(places.values()) >= round_id


def test_who_looks_on_sees_the_same_and_stops_nobody(driven: Driven) -> None:
    first = driven.provider.reported[0]
    assert [update.node_id for update in driven.first_seen] == [update.node_id for update in first]
    for name, vector in first[0].gradients.items():
        assert np.array_equal(vector, driven.first_seen[0].gradients[name])
    assert list(driven.provider.folder.glob(".followed-*")) == []


def test_the_nodes_are_described_by_what_the_peers_told(driven: Driven) -> None:
    assert sorted(node.node_id for node in driven.nodes) == sorted(driven.provider.run.quorum.founders)
    for node in driven.nodes:
        assert node.address.startswith("/ip4/127.0.0.1/tcp/")
        assert node.capabilities["device"] == "cpu"
        assert node.status == "training"
    assert all(reason == "" for reason in driven.provider.ended.values())


def test_no_process_outlives_the_with_block(driven: Driven) -> None:
    assert len(driven.processes) > 3 * PEERS
    until_gone(driven.processes)


def test_training_in_process_ends_within_5_percent_of_the_live_swarm(
    driven: Driven, in_process: LocalTrainingProvider
) -> None:
    live, local = driven.provider.val_loss, in_process.val_loss
    assert live is not None and local is not None
    print(f"validation loss of the live swarm {live:.4f}, in process {local:.4f} nats per token")
    assert local == pytest.approx(live, rel=0.05)


def test_a_swarm_whose_members_all_finish_commits_the_bits_of_training_in_process(driven: Driven) -> None:
    ids = sorted(node.node_id for node in driven.nodes)
    whole = driven.swarm.run.inner_steps * driven.swarm.node.batch_size
    commits = driven.commits
    complete = [(c.participating_nodes, c.samples) == (ids, [whole] * PEERS) for c in commits]
    comparable = complete.index(False) if False in complete else len(commits)
    if not comparable:
        pytest.skip("on this busy machine the swarm did not wait for all steps of all peers")
    with LocalTrainingProvider(driven.swarm, node_ids=ids) as provider:
        coordinator = DiLoCoCoordinator()
        state = coordinator.initialize(config_of(driven.swarm), provider.nodes)
        for commit in commits[:comparable]:
            updates = provider.get_updates(commit.round_id, state, provider.nodes)
            state = coordinator.run_round(state, updates)
            provider.receive_state(state, provider.nodes)
            for digests in provider.digests().values():
                assert digests == (commit.weights_digest, commit.momentum_digest)
    print(f"the same bits in {comparable} of {len(commits)} rounds, in which all finished all steps")


class Mishaps(Recorded):
    """Lets a peer lose all but its key, and later its supervisor as well."""

    victim = "peer-3"

    def __init__(self, swarm: SwarmConfig, loses_at: int, dies_at: int) -> None:
        super().__init__(swarm)
        self._loses_at, self._dies_at = loses_at, dies_at
        self.lost_after = 0
        self.back_with: list[tuple[int, int]] = []

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        if round_id == self._loses_at:
            self._lose_everything()
        if round_id == self._dies_at:
            os.kill(self._seen.local.pids()[self.victim], signal.SIGKILL)
        return super().get_updates(round_id, state, nodes)

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        super().receive_state(state, nodes)
        if self._loses_at <= state.round_id < self._dies_at:
            self.back_with.append((state.round_id, self.height()))

    def events(self) -> list[Event]:
        return [told.event for told in EventTail(states_of(self.folder)[self.victim].events).read()]

    def height(self) -> int:
        kinds = (RoundCommitted, StateFetched)
        return max((event.round_id for event in self.events() if isinstance(event, kinds)), default=0)

    def _lose_everything(self) -> None:
        (main,) = children_of(self._seen.local.pids()[self.victim])
        family = descendants(main) | {main}
        os.kill(main, signal.SIGKILL)
        until_gone(family)
        place = states_of(self.folder)[self.victim]
        shutil.rmtree(place.checkpoints)
        for path in place.path.glob(f"{place.log.name}*"):
            path.unlink()
        self.lost_after = self.height()


def test_a_peer_that_lost_its_state_is_waited_for_and_one_that_is_gone_for_good_is_not(
    tmp_path: Path,
) -> None:
    rounds = 7
    swarm = recipe(tmp_path, peers=3, rounds=10_000)
    coordinator = DiLoCoCoordinator()
    with Mishaps(swarm, loses_at=2, dies_at=rounds - 1) as provider:
        nodes = provider.nodes
        victim = next(node.node_id for node in nodes if node.capabilities["name"] == provider.victim)
        result = coordinator.run_training(config_of(swarm, rounds), nodes, provider)
        assert result.rounds_completed == rounds
        assert provider.ended == {victim: "killed by SIGKILL"}
        statuses = {node.capabilities["name"]: node.status for node in provider.nodes}
        assert statuses == {"peer-1": "training", "peer-2": "training", provider.victim: "failed"}

        fetched = [event for event in provider.events() if isinstance(event, StateFetched)]
        assert fetched[0].donors
        assert fetched[0].round_id >= provider.lost_after  # the swarm may still be in the round after it
        assert provider.lost_after < provider.back_with[-1][0]  # at least one round was waited for
        assert all(height >= round_id for round_id, height in provider.back_with)

        log = states_of(provider.folder)["peer-1"].log
        assert coordinator.credit_tracker.all_credits() == fold(commits_in(log)[:rounds])
