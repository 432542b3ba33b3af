"""A peer of the all-reduce tests: a process tree of its own that does what a pipe tells it."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import PacelineError
from paceline.learning.aggregate import mean_factors, weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.averager import Averager
from paceline.network.butterfly import PART_ELEMENTS, Arithmetic, ReduceOrder
from paceline.network.dht import PeerDht
from tests.network import attacks

PREFIX = "test"


def values(seed: int, num_elements: int) -> NDArray[np.float32]:
    """Draw a member's values: of many magnitudes, so that the order of additions shows."""
    rng = np.random.default_rng(seed)
    scale = np.float32(2.0) ** rng.integers(-12, 4, num_elements).astype(np.float32)
    return (rng.standard_normal(num_elements, dtype=np.float32) * scale).astype(np.float32)


class Program:
    def __init__(self, settings: dict[str, Any], pipe: Connection) -> None:
        self.pipe = pipe
        self.lock = threading.Lock()
        attacks.commit(settings.pop("attack", ""))  # before the fork: the averager's process must have it
        self.dht = PeerDht(settings.pop("seeds"))
        self.dht.start_or_raise()
        part_elements = settings.pop("part_elements", PART_ELEMENTS)
        arithmetic = Arithmetic(make_codec(settings.pop("codec")), weighted_mean, part_elements, mean_factors)
        self.averager = Averager(self.dht, arithmetic=arithmetic, prefix=PREFIX, **settings)
        self.averager.start_or_raise()
        self.say(
            peer_id=self.dht.peer_id.to_base58(),
            maddrs=[str(maddr) for maddr in self.dht.get_visible_maddrs()],
            pids=[self.dht.pid, self.averager.pid],
        )

    def say(self, **content: Any) -> None:
        with self.lock:
            self.pipe.send(content)

    def reduce(self, seed: int, order: dict[str, Any]) -> None:
        buffer = self.averager.buffer
        buffer[:] = values(seed, len(buffer))
        try:
            outcome = self.averager.reduce(ReduceOrder(**order))
        except PacelineError as error:
            self.say(complete=False, error=type(error).__name__)
        else:
            self.say(**asdict(outcome), sha=hashlib.sha256(buffer.data).hexdigest())

    def call(self, function: str, **arguments: Any) -> None:
        try:
            self.say(result=self.averager.call(getattr(attacks, function), 30.0, **arguments))
        except Exception as error:
            self.say(error=f"{type(error).__name__}: {error}")

    def handle(self, do: str, **arguments: Any) -> None:
        match do:
            case "reduce":
                threading.Thread(target=self.reduce, kwargs=arguments, daemon=True).start()
            case "cancel":
                self.averager.cancel(**arguments)
            case "call":
                self.call(**arguments)
            case "alive":
                self.say(alive=self.dht.is_alive() and self.averager.is_alive())
            case "stop":
                self.averager.shutdown()
                self.dht.shutdown()
                self.say(stopped=True)
            case other:
                raise ValueError(other)


def run(settings: dict[str, Any], pipe: Connection) -> None:
    """Be a peer until the pipe closes."""
    os.setsid()
    program = Program(settings, pipe)
    while True:
        try:
            command = pipe.recv()
        except EOFError:
            os._exit(0)
        program.handle(**command)
