"""Training in one process: all nodes as one large batch, or ours, node by node."""

from __future__ import annotations

import time

import numpy as np
import torch

from paceline.core.config import SwarmConfig
from paceline.core.events import Event, StepDone
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.local import LocalTrainingProvider
from paceline.federation.models import FederatedNode, GlobalState, TrainingConfig
from paceline.federation.parameters import flatten
from paceline.learning.checkpoint import load
from paceline.learning.codecs import make_codec
from paceline.learning.data import open_corpus
from paceline.learning.flat import Flat, FlatView
from paceline.learning.inner import InnerTrainer, evaluate
from paceline.learning.model import build_model, num_parameters
from tests.bench.training.recipe import OURS, Row, Size, node, node_ids
from tests.bench.training.results import Result, stamp
from tests.bench.training.wire import reduce_bytes, ring_bytes

CPU = torch.device("cpu")


def held_out_loss(size: Size, weights: Flat) -> float:
    """Measure weights, however they were trained, in nats per byte."""
    model = build_model(size.model, 0)
    FlatView(model).write(weights)
    corpus = open_corpus(node(size).data, seq_len=size.model.seq_len)
    return evaluate(model, corpus.held_out_batches(size.held_out, size.batch_size, size.model.seq_len), CPU)


def train(row: Row, size: Size, seed: int) -> Result:
    """Train a row that needs no second process."""
    torch.set_num_threads(1)
    return _ours(row, size, seed) if row.method == OURS else large_batch(row, size, seed, size.steps)


def large_batch(row: Row, size: Size, seed: int, steps: int) -> Result:
    """Take some steps with all nodes' batches as one."""
    # A step's gradient is the mean over all nodes' batches: what data-parallel training computes.
    model = build_model(size.model, seed)
    trainer, view = InnerTrainer(model, row.run(size, seed), node(size), CPU), FlatView(model)
    corpus = open_corpus(node(size).data, seq_len=size.model.seq_len)
    streams = [corpus.stream(seed, name, 1) for name in node_ids(size)]
    began = time.perf_counter()
    train_s = 0.0
    for step in range(steps):
        step_began = time.perf_counter()
        trainer.step([stream.batch(size.batch_size, size.model.seq_len) for stream in streams], step)
        train_s += time.perf_counter() - step_began
    wall_s = time.perf_counter() - began
    weights = np.empty(view.num_elements, np.float32)
    view.read(weights)
    return Result(
        row=row.name,
        seed=seed,
        digest=row.digest(size, seed),
        val_loss=held_out_loss(size, weights),
        sent_bytes=ring_bytes(view.num_elements, size.nodes) * steps,
        train_s=train_s,
        wall_s=wall_s,
        parameters=view.num_elements,
        **stamp(),
    )


class _Counting(LocalTrainingProvider):
    """Counts what a swarm would send, and the seconds of inner steps."""

    def __init__(self, swarm: SwarmConfig, names: list[str]) -> None:
        self.sent_bytes, self.train_s = 0, 0.0
        self._wires = {name: make_codec(name) for name in swarm.run.codecs}
        super().__init__(swarm, node_ids=names, tell=self._heard)

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        mean = flatten(self.run.model, state.global_weights)
        wire = self._wires[self.run.codec_of(state.round_id)]
        self.sent_bytes += reduce_bytes(wire, mean, len(state.participating_nodes))
        super().receive_state(state, nodes)

    def _heard(self, node_id: str, event: Event) -> None:
        if isinstance(event, StepDone):
            self.train_s += event.seconds


def _ours(row: Row, size: Size, seed: int) -> Result:
    run = row.run(size, seed)
    swarm = SwarmConfig(run=run, node=node(size), peers=size.nodes)
    config = TrainingConfig(
        model_name=run.name,
        learning_rate=run.inner.optimizer.lr,
        batch_size=size.batch_size,
        local_steps=run.inner_steps,
        global_rounds=run.rounds,
        num_nodes=size.nodes,
    )
    with _Counting(swarm, node_ids(size)) as provider:
        began = time.perf_counter()
        DiLoCoCoordinator().run_training(config, provider.nodes, provider)
        wall_s = time.perf_counter() - began
        assert provider.checkpoint is not None
        weights = load(provider.checkpoint).anchor
    return Result(
        row=row.name,
        seed=seed,
        digest=row.digest(size, seed),
        val_loss=held_out_loss(size, weights),
        sent_bytes=provider.sent_bytes,
        train_s=provider.train_s,
        wall_s=wall_s,
        parameters=num_parameters(size.model),
        **stamp(),
    )
