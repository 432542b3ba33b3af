"""A peer of the all-reduce tests, a process of its own: reads commands from stdin, answers on stdout, as JSON.

    python -m tests.network.reduce_program '{"seeds": [], "num_elements": 1000, "codec": "fp32"}'
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.core.errors import PacelineError
from paceline.learning.codecs import make_codec
from paceline.network.averager import Averager
from paceline.network.butterfly import ReduceOrder
from paceline.network.dht import PeerDht

PREFIX = "test"


def values(seed: int, num_elements: int) -> NDArray[np.float32]:
    """Draw a member's values: of many magnitudes, so that the order of additions shows."""
    rng = np.random.default_rng(seed)
    scale = np.float32(2.0) ** rng.integers(-12, 4, num_elements).astype(np.float32)
    return (rng.standard_normal(num_elements, dtype=np.float32) * scale).astype(np.float32)


class Program:
    def __init__(self, settings: dict[str, Any]) -> None:
        if attack := settings.get("attack"):  # before the fork, so that the averager's process has it too
            importlib.import_module("tests.network.attacks").commit(attack)
        self.dht = PeerDht(settings["seeds"])
        self.dht.start_or_raise()
        self.averager = Averager(
            self.dht,
            num_elements=settings["num_elements"],
            codec=make_codec(settings["codec"]),
            prefix=PREFIX,
            part_elements=settings.get("part_elements", 1 << 12),
        )
        self.averager.start_or_raise()
        self.say(
            peer_id=self.dht.peer_id.to_base58(),
            maddrs=[str(maddr) for maddr in self.dht.get_visible_maddrs()],
            pids={"main": os.getpid(), "dht": self.dht.pid, "averager": self.averager.pid},
        )

    def say(self, **content: Any) -> None:
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()

    def reduce(self, seed: int, order: dict[str, Any], keep: str = "") -> None:
        buffer = self.averager.buffer
        buffer[:] = values(seed, len(buffer))
        try:
            outcome = self.averager.reduce(ReduceOrder(**{
                name: tuple(value) if isinstance(value, list) else value for name, value in order.items()
            }))
        except PacelineError as error:
            self.say(error=str(error))
            return
        if keep:
            np.save(Path(keep), buffer)
        self.say(**asdict(outcome), sha=hashlib.sha256(buffer).hexdigest())

    def handle(self, command: dict[str, Any]) -> None:
        match command.pop("do"):
            case "reduce":
                threading.Thread(target=self.reduce, kwargs=command, daemon=True).start()
            case "cancel":
                self.averager.cancel()
            case "call":
                function = getattr(importlib.import_module("tests.network.attacks"), command.pop("function"))
                self.say(result=self.averager.call(function, 60.0, **command))
            case "alive":
                self.say(dht=self.dht.is_alive(), averager=self.averager.is_alive())
            case "stop":
                self.averager.shutdown()
                self.dht.shutdown()
                self.say(stopped=True)
            case other:
                raise ValueError(other)


if __name__ == "__main__":
    program = Program(json.loads(sys.argv[1]))
    for line in sys.stdin:
        program.handle(json.loads(line))
    os._exit(0)
