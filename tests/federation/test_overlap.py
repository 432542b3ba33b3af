"""Claims about overlap and streaming: what a run computes is what the formulae say, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

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
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.local import LocalTrainingProvider
from paceline.federation.models import TrainingConfig
from paceline.learning import checkpoint
from paceline.learning.data import Stream, open_corpus
from paceline.learning.flat import named_slices
from paceline.learning.inner import InnerTrainer
from paceline.learning.model import build_model, parameter_shapes

MODEL = GptConfig(dim=16, layers=3, heads=2, seq_len=16)
H, TURNS, NODES, BATCH = 12, 3, 2, 2
NAMES = list(parameter_shapes(MODEL))
Vectors = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("".join(f"rider {n} pulls for {n % 7} turns\n" for n in range(2000)))
    return path


def recipe(text: Path, **overlap: object) -> SwarmConfig:
    run = RunConfig.model_validate(
        {
            "name": "overlap",
            "codec": "fp32",
            "inner_steps": H,
            "rounds": TURNS * int(str(overlap.get("fragments", 1))),
            "expected_peers": NODES,
            "model": MODEL,
            "inner": InnerConfig(optimizer=AdamWConfig(lr=1e-2), schedule=ScheduleConfig(warmup_steps=2)),
            "overlap": overlap,
        }
    )
    node = NodeConfig(
        device="cpu",
        threads=1,
        batch_size=BATCH,
        eval_batches=1,
        cache_dir=text.parent / "cache",
        data=TextData(paths=(str(text),)),
    )
    return SwarmConfig(run=run, node=node, peers=NODES)


def trained(swarm: SwarmConfig) -> tuple[Vectors, Vectors, dict[int, float]]:
    config = TrainingConfig(
        model_name=swarm.run.name,
        learning_rate=1e-2,
        batch_size=BATCH,
        local_steps=H,
        global_rounds=swarm.run.rounds,
        num_nodes=NODES,
    )
    with LocalTrainingProvider(swarm) as provider:
        DiLoCoCoordinator().run_training(config, provider.nodes, provider)
        assert len(set(provider.digests().values())) == 1
        assert provider.checkpoint is not None
        found = checkpoint.load(provider.checkpoint)
    shapes = parameter_shapes(MODEL)
    return named_slices(shapes, found.anchor), named_slices(shapes, found.momentum), provider.val_losses


def fragment_of(name: str, fragments: int) -> int:
    if name == "embedding":
        return 0
    return fragments - 1 if name == "final_norm.weight" else int(name.split(".")[1]) % fragments


def sends(fragments: int) -> list[tuple[int, int]]:
    """After which step which fragment is sent: in turns, and in the end all of them, a step apart."""
    last = H * TURNS
    offsets = [fragment * H // fragments for fragment in range(fragments)]
    due = [
        (t, p)
        for t in range(1, last)
        for p, offset in enumerate(offsets)
        if t > offset and (t - offset) % H == 0
    ]
    flush = [(last - fragments + 1 + fragment, fragment) for fragment in range(fragments)]
    return [*due[: (TURNS - 1) * fragments], *flush]


class Node:
    """One node of the reference: a model, its data, and what it has sent."""

    def __init__(self, swarm: SwarmConfig, number: int) -> None:
        self.id, self.run = f"node-{number:03d}", swarm.run
        self.model = build_model(MODEL, swarm.run.seed)
        self.trainer = InnerTrainer(self.model, swarm.run, swarm.node, torch.device("cpu"))
        self.corpus = open_corpus(swarm.node.data, swarm.node.cache_dir, seq_len=MODEL.seq_len)
        self.sent: Vectors = {}
        self.begin(1)

    def begin(self, round_id: int) -> None:
        self.stream: Stream = self.corpus.stream(self.run.seed, self.id, round_id)

    def step(self, t: int) -> None:
        self.trainer.step([self.stream.batch(BATCH, MODEL.seq_len)], t)

    def x(self) -> Vectors:
        return {name: part.detach().numpy() for name, part in self.model.named_parameters()}


class Reference:
    """Streaming DiLoCo with nothing but numpy around the inner steps."""

    def __init__(self, swarm: SwarmConfig) -> None:
        self.overlap, outer = swarm.run.overlap, swarm.run.outer
        self.lr, self.mu = np.float32(outer.lr), np.float32(outer.momentum)
        self.nodes = [Node(swarm, number) for number in range(1, NODES + 1)]
        self.theta = {name: part.copy() for name, part in self.nodes[0].x().items()}
        self.m = {name: np.zeros_like(part) for name, part in self.theta.items()}
        self.on_its_way: tuple[int, int] | None = None
        self.round_id = 1

    def run(self) -> None:
        due = dict(sends(self.overlap.fragments))
        for t in range(1, H * TURNS + 1):
            for node in self.nodes:
                node.step(t - 1)
            if self.on_its_way and t == self.on_its_way[0] + self.overlap.delay_steps:
                self.come_back()
            if t in due:
                self.send(t, due[t])
        self.come_back()

    def send(self, t: int, fragment: int) -> None:
        self.come_back()  # one exchange at a time
        self.round_id += 1
        for node in self.nodes:
            node.sent = {name: part.copy() for name, part in node.x().items()}
            node.begin(self.round_id)
        self.on_its_way = (t, fragment)
        if not self.overlap.delay_steps:
            self.come_back()

    def come_back(self) -> None:
        if self.on_its_way is None:
            return
        (_, fragment), self.on_its_way = self.on_its_way, None
        for name in NAMES:
            if fragment_of(name, self.overlap.fragments) == fragment:
                self.step(name)

    def step(self, name: str) -> None:
        theta, lr, mu = self.theta, self.lr, self.mu
        g = sum((theta[name] - node.sent[name]) / NODES for node in self.nodes)
        self.m[name] = mu * self.m[name] + g
        theta[name] = theta[name] - lr * (mu * self.m[name] + g)
        for node in self.nodes:
            x = node.x()[name]
            if not self.overlap.delay_steps:
                x[:] = theta[name]
            elif self.overlap.apply == "drift":
                x[:] = theta[name] + (x - node.sent[name])
            else:
                x[:] = x / 2 + theta[name] / 2


@pytest.mark.parametrize("fragments", [1, 2, 3])
@pytest.mark.parametrize(("delay_steps", "apply"), [(0, "drift"), (3, "drift"), (3, "mix")])
def test_a_run_with_overlap_has_the_bits_of_streaming_diloco(
    text: Path, fragments: int, delay_steps: int, apply: str
) -> None:
    swarm = recipe(text, fragments=fragments, delay_steps=delay_steps, apply=apply)
    anchor, momentum, _ = trained(swarm)
    reference = Reference(swarm)
    reference.run()
    for name in NAMES:
        assert np.array_equal(anchor[name], reference.theta[name]), name
        assert np.array_equal(momentum[name], reference.m[name]), name


def test_one_fragment_without_delay_is_the_run_without_overlap(text: Path) -> None:
    plain = recipe(text).run
    spelled = recipe(text, fragments=1, delay_steps=0, apply="drift").run
    assert plain.document() == spelled.document()
    assert "overlap" not in json.loads(plain.document())


def test_the_anchor_is_measured_when_all_fragments_have_been_exchanged_equally_often(text: Path) -> None:
    swarm = recipe(text, fragments=3, delay_steps=1)
    _, _, losses = trained(swarm)
    assert sorted(losses) == [0, 3, 6, 9]
    assert losses[9] < losses[0]


def test_a_step_that_is_taken_while_a_round_is_exchanged_counts_for_the_next_one_and_for_no_other(
    text: Path,
) -> None:
    with LocalTrainingProvider(recipe(text, fragments=2, delay_steps=3)) as provider:
        learner = provider._learners["node-001"]
        while learner.progress.inner_step < H:
            learner.train(lambda event: None)
        learner.send()
        for _ in range(4):
            learner.train(lambda event: None)
        assert learner.progress.samples == H * BATCH
        path = provider.folder / "round-1"
        learner.stage(np.zeros(learner.fragment.num_elements, np.float32), path)
        learner.load(path)
        learner.follow(learner.first.model_copy(update={"round_id": 1}))
        assert (learner.round_id, learner.is_ahead) == (2, False)
        assert (learner.progress.inner_step, learner.progress.samples) == (4, 4 * BATCH)


def test_a_node_that_is_asked_again_sends_the_same_again_whatever_it_has_learned_since(text: Path) -> None:
    swarm = recipe(text, fragments=2, delay_steps=3)
    with LocalTrainingProvider(swarm) as provider:
        learner = provider._learners["node-001"]
        while learner.progress.inner_step < H:
            learner.train(lambda event: None)
        learner.send()
        first, again = (np.empty(learner.fragment.num_elements, np.float32) for _ in range(2))
        learner.write_pseudo_gradient(first)
        samples = learner.progress.samples
        learner.train(lambda event: None)
        learner.write_pseudo_gradient(again)
        assert np.array_equal(first, again) and first.any()
        # A step counts once: the one since counts for the next round, or for this one if that goes on.
        assert (learner.progress.samples, learner.ahead.samples) == (samples, BATCH)
        learner.take_up()
        assert (learner.progress.samples, learner.ahead.samples) == (samples + BATCH, 0)
        learner.write_pseudo_gradient(again)
        assert not np.array_equal(first, again)
