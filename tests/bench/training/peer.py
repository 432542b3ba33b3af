"""One of several processes that train together by somebody else's means.

python -m tests.bench.training.peer FOLDER NUMBER

`FOLDER/job.json` says what; the weights it ends with and its times are left there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paceline.core.config import NodeConfig, RunConfig
from paceline.learning.data import open_corpus
from paceline.learning.flat import FlatView
from paceline.learning.inner import InnerTrainer
from paceline.learning.model import build_model
from tests.bench.training.recipe import SIZES, Row, Size, node, node_ids, row_called

_PATIENCE_S = 600.0
_HIVEMIND_MATCHMAKING_S = 2.0


@dataclass(frozen=True)
class Job:
    """What the processes of one row do.

    Attributes:
        row: The row's name.
        size: The size's name.
        seed: The seed.
        steps: Inner steps of each process.
        address: Where a server of theirs listens; empty where there is none.
    """

    row: str
    size: str
    seed: int
    steps: int
    address: str = ""


class Place:
    """One process's seat at the table.

    Attributes:
        folder: Where all of them leave files.
        number: Its number, from 0.
        job: What they do.
        size: How much.
        row: By which means.
        before_round: Called between two rounds with the number of the one to come.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self.job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
        self.size: Size = SIZES[self.job.size]
        self.row: Row = row_called(self.job.row)
        self.before_round: Callable[[int], None] = lambda round_id: None

    @property
    def run(self) -> RunConfig:
        """The run's parameters."""
        return self.row.run(self.size, self.job.seed)

    def say(self, name: str, text: str) -> None:
        """Leave a file for the others, whole or not at all."""
        draft = self.folder / f".{name}-{self.number}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.folder / f"{name}-{self.number}")

    def hear(self, name: str, number: int) -> str:
        """Wait for another one's file."""
        path, deadline = self.folder / f"{name}-{number}", time.monotonic() + _PATIENCE_S
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} never came")
            time.sleep(0.05)
        return path.read_text(encoding="utf-8")

    def meet(self, name: str) -> None:
        """Wait until everybody is here."""
        self.say(name, "")
        for number in range(self.size.nodes):
            self.hear(name, number)


class GlooTrainer(InnerTrainer):
    """Averages gradients between backward pass and clipping, in one message, as data-parallel training does.

    Attributes:
        sync_s: Seconds spent on it.
    """

    def __init__(self, model: nn.Module, run: RunConfig, settings: NodeConfig, device: torch.device) -> None:
        super().__init__(model, run, settings, device)
        self.sync_s = 0.0

    def _clip(self) -> Tensor:
        import torch.distributed as dist

        began = time.perf_counter()
        gradients = [part.grad for part in self._model.parameters() if part.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))
        self.sync_s += time.perf_counter() - began
        return super()._clip()


def train(place: Place, trainer: InnerTrainer) -> tuple[float, float]:
    """Take all steps, each on this node's own stream; tell seconds per step without and with exchanges."""
    size, inner_steps = place.size, place.row.inner_steps
    corpus = open_corpus(node(size).data, seq_len=size.model.seq_len)
    name, taken = node_ids(size)[place.number], []
    stream = corpus.stream(place.job.seed, name, 1)
    place.meet("ready")
    began = time.perf_counter()
    for step in range(place.job.steps):
        if inner_steps > 1 and step % inner_steps == 0:
            if step:
                place.before_round(step // inner_steps + 1)
            stream = corpus.stream(place.job.seed, name, step // inner_steps + 1)
        step_began = time.perf_counter()
        trainer.step([stream.batch(size.batch_size, size.model.seq_len)], step)
        taken.append(time.perf_counter() - step_began)
    wall_s = time.perf_counter() - began
    if isinstance(trainer, GlooTrainer):
        return sum(taken) - trainer.sync_s, wall_s
    # Steps in which somebody exchanged nothing tell what the others' training took.
    period = inner_steps // (2 if place.row.method == "torchft streaming" else 1)
    alone = [seconds for step, seconds in enumerate(taken, start=1) if step % period]
    return float(np.mean(alone)) * len(taken), wall_s


@contextmanager
def gloo(place: Place) -> Iterator[tuple[InnerTrainer, nn.Module]]:
    """Data-parallel: gradients are averaged in every step."""
    import torch.distributed as dist

    model, trainer = _model(place, GlooTrainer)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{place.folder}/rendezvous",
        rank=place.number,
        world_size=place.size.nodes,
        timeout=timedelta(seconds=_PATIENCE_S),
    )
    try:
        yield trainer, model
    finally:
        dist.destroy_process_group()


@contextmanager
def hivemind(place: Place) -> Iterator[tuple[InnerTrainer, nn.Module]]:
    """hivemind.Optimizer with local updates: parameters are averaged once all have taken H steps together."""
    import hivemind as hm
    from hivemind.compression import Float16Compression

    model, trainer = _model(place)
    first = [] if place.number == 0 else json.loads(place.hear("address", 0))
    dht = hm.DHT(initial_peers=first, host_maddrs=["/ip4/127.0.0.1/tcp/0"], use_relay=False, start=True)
    place.say("address", json.dumps([str(address) for address in dht.get_visible_maddrs()]))
    size = place.size
    optimizer: Any = hm.Optimizer(
        dht=dht,
        run_id="bench",
        optimizer=trainer._optimizers[0],
        target_batch_size=size.nodes * size.batch_size * place.row.inner_steps,
        batch_size_per_step=size.batch_size,
        use_local_updates=True,
        delay_state_averaging=False,
        matchmaking_time=_HIVEMIND_MATCHMAKING_S,
        averaging_timeout=60.0,
        state_averaging_compression=Float16Compression(),
        tracker_opts={"min_refresh_period": 0.1, "default_refresh_period": 0.3, "max_refresh_period": 1.0},
    )
    trainer._optimizers[:] = [_stepping(optimizer, trainer._optimizers[0].param_groups)]

    def wait(round_id: int) -> None:
        # It counts samples in the background, every few 100 ms: so short a round would be over long before.
        place.meet(f"round-{round_id}")
        while not optimizer.tracker.ready_to_update_epoch:
            time.sleep(0.05)

    place.before_round = wait
    try:
        yield trainer, model
        print(f"epochs: {optimizer.local_epoch}", flush=True)
    finally:
        optimizer.shutdown()
        dht.shutdown()


@contextmanager
def torchft(place: Place) -> Iterator[tuple[InnerTrainer, nn.Module]]:
    """torchft's DiLoCo, in one fragment or in two that take turns."""
    import torch.distributed as dist
    from torchft.local_sgd import DiLoCo
    from torchft.manager import Manager
    from torchft.process_group import ProcessGroupGloo

    model, trainer = _model(place)
    store: Any = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    outer = place.run.outer
    fragments = [model]
    if place.row.method == "torchft streaming":
        parts = dict(model.named_parameters())
        halves = sorted(parts)[: len(parts) // 2], sorted(parts)[len(parts) // 2 :]
        fragments = [_Fragment({name: parts[name] for name in half}) for half in halves]
    outers = [
        torch.optim.SGD(
            fragment.parameters(), lr=outer.lr, momentum=outer.momentum, nesterov=outer.momentum > 0
        )
        for fragment in fragments
    ]
    limit = timedelta(seconds=_PATIENCE_S)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=limit),
        min_replica_size=place.size.nodes,
        load_state_dict=lambda state: None,
        state_dict=dict,
        use_async_quorum=False,
        init_sync=False,
        timeout=limit,
        quorum_timeout=limit,
        connect_timeout=limit,
        replica_id=f"node-{place.number}",
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=place.job.address,
        hostname="127.0.0.1",
    )
    inner = trainer._optimizers[0]
    try:
        with DiLoCo(manager, fragments, inner, outers, sync_every=place.row.inner_steps):
            yield trainer, model
    finally:
        manager.shutdown(wait=False)


def _stepping(optimizer: Any, param_groups: list[dict[str, Any]]) -> Any:
    # hivemind.Optimizer shows copies of its groups: a learning rate set there would change nothing.
    return SimpleNamespace(step=optimizer.step, param_groups=param_groups)


class _Fragment(nn.Module):
    # Some parameters of a model, under names without dots.
    def __init__(self, parts: dict[str, nn.Parameter]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.register_parameter(name.replace(".", "-"), part)


def _model(place: Place, kind: Callable[..., InnerTrainer] = InnerTrainer) -> tuple[nn.Module, InnerTrainer]:
    model = build_model(place.size.model, place.job.seed)
    return model, kind(model, place.run, node(place.size), torch.device("cpu"))


MEANS = {"gloo": gloo, "hivemind": hivemind, "torchft": torchft, "torchft streaming": torchft}


def main(arguments: Sequence[str]) -> None:
    """Be one of them."""
    torch.set_num_threads(1)
    place = Place(Path(arguments[0]), int(arguments[1]))
    with MEANS[place.row.method](place) as (trainer, model):
        train_s, wall_s = train(place, trainer)
        view = FlatView(model)
        weights = np.empty(view.num_elements, np.float32)
        view.read(weights)
        np.save(place.folder / f"weights-{place.number}.npy", weights)
        place.say("times", json.dumps({"train_s": train_s, "wall_s": wall_s}))
        place.meet("done")


if __name__ == "__main__":
    main(sys.argv[1:])
