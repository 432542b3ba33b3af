"""Peers of `scripts/bench sync`: each a process tree that averages one flat vector with three others.

All draw the same values by their place, so that whoever averages can be checked, and all are told to begin by
the same pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, Protocol

import hivemind
import numpy as np
import torch
import torch.distributed as dist
from hivemind.averaging.control import AveragingStage
from hivemind.compression import Float16Compression, NoCompression
from numpy.typing import NDArray

from paceline.learning.aggregate import mean_factors, weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.averager import Averager
from paceline.network.butterfly import Arithmetic, ReduceOrder
from paceline.network.dht import PeerDht

NUM_PEERS = 4
SAMPLE = 10_000
"""Values at the beginning of the vector by which a result is checked."""
_LIMIT_S = 600.0


def draw(place: int, out: NDArray[np.float32]) -> None:
    """Fill in the values of the member at a place."""
    np.random.default_rng(place).standard_normal(out=out, dtype=np.float32)


class Member(Protocol):
    """One member, whatever averages for it.

    Attributes:
        values: The flat vector, where it is averaged.
        hello: What the others must know to meet it.
    """

    values: NDArray[np.float32]
    hello: dict[str, Any]

    def prepare(self, order: Any) -> None:
        """Do whatever precedes the all-reduce proper, such as finding the others."""

    def reduce(self) -> None:
        """Average with the others."""

    def stop(self) -> None:
        """End all processes but this one."""


class Ours:
    """Paceline's averager."""

    def __init__(self, num_elements: int, how: str, seeds: list[str], place: int) -> None:
        del place
        self._dht = PeerDht(seeds)
        self._dht.start_or_raise()
        arithmetic = Arithmetic(make_codec(how), weighted_mean, factors=mean_factors)  # type: ignore[arg-type]
        self._averager = Averager(self._dht, num_elements=num_elements, arithmetic=arithmetic, prefix="bench")
        self._averager.start_or_raise()
        self.values = self._averager.buffer
        maddrs = [str(maddr) for maddr in self._dht.get_visible_maddrs()]
        self.hello = {"seeds": maddrs, "peer_id": self._dht.peer_id.to_base58()}
        self._order: ReduceOrder

    def prepare(self, order: Any) -> None:
        roster = tuple(sorted(order["peers"]))
        limits: dict[str, Any] = {"start_s": 60.0, "stall_s": 60.0, "total_s": _LIMIT_S}
        self._order = ReduceOrder(order["key"], roster, (1,) * len(roster), **limits)

    def reduce(self) -> None:
        outcome = self._averager.reduce(self._order)
        if not outcome.complete:
            raise RuntimeError(outcome.cause)

    def stop(self) -> None:
        self._averager.shutdown()
        self._dht.shutdown()


class Stock:
    """Hivemind's averager with its defaults; finding a group is left out of what is measured."""

    def __init__(self, num_elements: int, how: str, seeds: list[str], place: int) -> None:
        del place
        multiprocessing.set_start_method("fork", force=True)  # hivemind's processes know no other
        self._dht = hivemind.DHT(initial_peers=seeds, start=True, startup_timeout=60.0)
        compression = {"fp32": NoCompression, "fp16": Float16Compression}[how]()
        self._averager = hivemind.DecentralizedAverager(
            [torch.zeros(num_elements)],
            self._dht,
            prefix="bench",
            start=True,
            compression=compression,
            target_group_size=NUM_PEERS,
            min_group_size=NUM_PEERS,
            min_matchmaking_time=30.0,
            allreduce_timeout=_LIMIT_S,
        )
        with self._averager.get_tensors() as (tensor,):
            self.values = tensor.numpy()
        self.hello = {"seeds": [str(maddr) for maddr in self._dht.get_visible_maddrs()]}
        self._step: Any

    def prepare(self, order: Any) -> None:
        del order
        how = {"wait": False, "require_trigger": True, "allow_retries": False}
        self._step = self._averager.step(timeout=_LIMIT_S, **how)
        while self._step.stage != AveragingStage.AWAITING_TRIGGER:
            if self._step.done():
                raise RuntimeError(f"no group: {self._step.exception()}")
            time.sleep(0.01)

    def reduce(self) -> None:
        self._step.allow_allreduce()
        if len(self._step.result()) != NUM_PEERS:
            raise RuntimeError("not everybody was there")

    def stop(self) -> None:
        self._averager.shutdown()
        self._dht.shutdown()


class Gloo:
    """What is possible inside a data centre: torch.distributed, no encryption, nobody leaves."""

    def __init__(self, num_elements: int, how: str, seeds: list[str], place: int) -> None:
        del how
        torch.set_num_threads(1)
        self._tensor = torch.zeros(num_elements)
        self.values = self._tensor.numpy()
        self.hello = {"seeds": seeds or ["tcp://127.0.0.1:29500"]}
        self._place = place
        self._met = False

    def prepare(self, order: Any) -> None:
        del order
        if not self._met:
            (store,), limit = self.hello["seeds"], timedelta(seconds=_LIMIT_S)
            dist.init_process_group(
                "gloo", init_method=store, rank=self._place, world_size=NUM_PEERS, timeout=limit
            )
            self._met = True

    def reduce(self) -> None:
        dist.all_reduce(self._tensor)
        self._tensor.div_(NUM_PEERS)

    def stop(self) -> None:
        dist.destroy_process_group()


MEMBERS: dict[str, Any] = {"ours": Ours, "hivemind": Stock, "gloo": Gloo}


def run(kind: str, settings: dict[str, Any], pipe: Connection) -> None:
    """Be a member until the pipe closes."""
    os.setsid()
    member: Member = MEMBERS[kind](**settings)
    pipe.send(member.hello)
    while True:
        try:
            command, content = pipe.recv()
        except EOFError:
            os._exit(0)
        match command:
            case "prepare":
                draw(settings["place"], member.values)
                member.prepare(content)
                pipe.send(None)
            case "reduce":
                member.reduce()
                pipe.send((time.monotonic(), member.values[:SAMPLE].copy()))
            case "stop":
                member.stop()
                pipe.send(None)
