"""Real peers on one slow link: how fast they can step, and one training of theirs, observed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from paceline.core.config import GptConfig, NetworkConfig, NodeConfig, RunConfig
from paceline.core.events import AttemptVoided, ReduceEnded
from paceline.core.overlap import OverlapConfig
from tests.bench.live_link import SharedLink
from tests.bench.live_times import Sample, Tales
from tests.nemesis.swarm import Setting, Swarm

NUM_PEERS = 4
_PACED_S = 8.0
_SAMPLED_EVERY_S = 0.25
_PATIENCE = 20.0


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        codec: How values travel.
        fragments: Into how many parts the model is cut.
        delay: Share of H that a part may be on its way while training goes on; 0 for plain DiLoCo.
    """

    codec: str
    fragments: int = 1
    delay: float = 0.0

    @property
    def name(self) -> str:
        """What people call it."""
        return f"overlap {self.fragments}, {self.codec}" if self.delay else f"plain, {self.codec}"

    def overlap(self, inner_steps: int) -> OverlapConfig:
        most = inner_steps // self.fragments - 1
        return OverlapConfig(fragments=self.fragments, delay_steps=min(round(self.delay * inner_steps), most))


@dataclass(frozen=True)
class Observed:
    """What was seen of one training.

    Attributes:
        tales: What each peer told.
        samples: What had gone over each peer's line, now and then.
        voids: Attempts that were given up.
        load: Processes that wanted a processor during the training, those of others included.
    """

    tales: Tales
    samples: dict[str, list[Sample]]
    voids: int
    load: float


def model(dim: int) -> GptConfig:
    """The model that is trained, of this width."""
    return GptConfig(dim=dim, layers=4, heads=4, seq_len=64)


def node() -> NodeConfig:
    """What all peers have in common; the rest is as it is for everybody."""
    network = NetworkConfig(listen=("/ip4/127.0.0.1/tcp/0",), relay=False)
    return NodeConfig(device="cpu", threads=1, batch_size=8, network=network)


def step_seconds(dim: int) -> float:
    """Measure an inner step while as many peers as will train step at once, and nobody speaks.

    Returns:
        Seconds of a peer's fastest step, in the median over the peers: what else the machine does now it may
        not do later.
    """
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(NUM_PEERS)
    try:
        return median(pool.map(_paced, [dim] * NUM_PEERS, chunksize=1))
    finally:
        pool.close()
        pool.join()


def _paced(dim: int) -> float:
    from paceline.peer.learner import Learner

    learner = Learner(RunConfig(model=model(dim), inner_steps=1000), node(), "nobody")
    seconds, until = list[float](), time.monotonic() + _PACED_S
    while time.monotonic() < until or len(seconds) < 6:
        seconds.append(learner.train(lambda _: None)[1])
    return min(seconds)


def observe(
    case: Case, *, dim: int, inner_steps: int, rounds: int, rate: str, keep: Path | None = None
) -> Observed:
    """Let four peers train over a slow link, and note what they tell.

    Args:
        case: How.
        dim: Width of the model.
        inner_steps: H.
        rounds: How often everything is exchanged after the first commit.
        rate: How fast the link is.
        keep: Folder that gets the peers' event files.
    """
    usual = {"model": model(dim), "inner_steps": inner_steps, "codec": case.codec}
    run = {**usual, "overlap": case.overlap(inner_steps), "rounds": 1_000_000, "codec_warmup": {"rounds": 0}}
    own = {name: value for name, value in node() if name in node().model_fields_set}
    setting = Setting(NUM_PEERS, run=run, node={**own, "eval_batches": 2}, supervised=False)
    with (
        tempfile.TemporaryDirectory(prefix="paceline-bench-") as folder,
        SharedLink(NUM_PEERS, rate) as link,
        Swarm(Path(folder), setting, link) as swarm,
    ):
        _say(f"{case.name}: round 1 is committed")
        samples: dict[str, list[Sample]] = {name: [] for name in swarm.peers}
        done = threading.Event()
        looking = threading.Thread(target=_look, args=(link, samples, done))
        looking.start()
        try:
            _let_train(swarm, case, rounds, inner_steps)
            load = os.getloadavg()[0]
        finally:
            done.set()
            looking.join()
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            for name, peer in swarm.peers.items():
                shutil.copy(peer.state.events, keep / f"{name}.jsonl")
        tales = {name: peer.told for name, peer in swarm.peers.items()}
        voids = sum(len(peer.events(AttemptVoided)) for peer in swarm.peers.values())
    return Observed(tales, samples, voids, load)


def _let_train(swarm: Swarm, case: Case, rounds: int, inner_steps: int) -> None:
    first = max(peer.height for peer in swarm.peers.values())
    for round_id in range(first + 1, first + rounds * case.fragments + 1):
        limit_s = 120.0 + inner_steps * _PATIENCE
        swarm.until(_stand_on(swarm, round_id), limit_s, f"round {round_id}", 0.2)
        told = next(iter(swarm.peers.values())).events(ReduceEnded)
        _say(f"{case.name}: round {round_id} is committed, the last all-reduce took {told[-1].seconds:.1f} s")


def _stand_on(swarm: Swarm, round_id: int) -> Callable[[], bool]:
    return lambda: all(peer.height >= round_id for peer in swarm.peers.values())


def _look(link: SharedLink, samples: dict[str, list[Sample]], done: threading.Event) -> None:
    while True:
        traffic, now = link.traffic(), time.time()
        for name, kept in samples.items():
            kept.append(Sample(now, traffic[name].sent))
        if done.wait(_SAMPLED_EVERY_S):
            return


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
