"""Starts peers of `reduce_program` and talks to them; every wait has a generous limit."""

from __future__ import annotations

import itertools
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.learning.codecs import make_codec
from paceline.network.butterfly import shares, weighted_mean
from tests.network.reduce_program import values

ROOT = Path(__file__).parents[2]
START_S = 90.0
_seeds = itertools.count(1)


class Peer:
    """One peer: a process tree of its own."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.network.reduce_program", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.peer_id = ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def wait_until_up(self) -> dict[str, Any]:
        self.hello = self.hear(START_S)
        self.peer_id = self.hello["peer_id"]
        return self.hello

    def tell(self, do: str, **content: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **content}) + "\n")
        self._process.stdin.flush()

    def hear(self, timeout_s: float = 60.0) -> dict[str, Any]:
        line = self._lines.get(timeout=timeout_s)
        assert line, "the peer's process has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **content: Any) -> dict[str, Any]:
        self.tell(do, **content)
        return self.hear()

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole tree."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait(30)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()


@contextmanager
def swarm(num_peers: int, *, attacks: Sequence[str] = (), **settings: Any) -> Iterator[list[Peer]]:
    """Start peers that know one another; those at the end carry out the attacks."""
    honest = [""] * (num_peers - len(attacks))
    peers = [Peer(seeds=[], **settings)]
    try:
        seeds = peers[0].wait_until_up()["maddrs"]
        peers += [Peer(seeds=seeds, attack=attack, **settings) for attack in [*honest[1:], *attacks]]
        for peer in peers[1:]:
            peer.wait_until_up()
        yield peers
    finally:
        for peer in peers:
            peer.kill()


def order_for(peers: Sequence[Peer], weights: dict[str, int] | None = None, **limits: float) -> dict[str, Any]:
    """Order an all-reduce of these peers; limits are those of a patient run."""
    roster = sorted(peer.peer_id for peer in peers)
    given = weights or {}
    return {
        "key": secrets.token_hex(32),
        "roster": roster,
        "weights": [given.get(peer_id, 1) for peer_id in roster],
        **{"start_s": 30.0, "stall_s": 20.0, "total_s": 120.0, **limits},
    }


def begin(peers: Sequence[Peer], order: dict[str, Any], keep: Path | None = None) -> dict[str, int]:
    """Let peers start an all-reduce, each with values of its own; tells which seed each one draws from."""
    seeds = {peer.peer_id: next(_seeds) for peer in peers}
    for peer in peers:
        path = str(keep / f"{peer.peer_id}.npy") if keep else ""
        peer.tell("reduce", seed=seeds[peer.peer_id], order=order, keep=path)
    return seeds


def reduce(peers: Sequence[Peer], **limits: float) -> list[dict[str, Any]]:
    """Run one all-reduce of these peers with equal weights."""
    begin(peers, order_for(peers, **limits))
    return [peer.hear(150.0) for peer in peers]


def expected(order: dict[str, Any], seeds: dict[str, int], num_elements: int, codec: str) -> NDArray[np.float32]:
    """Compute in this one process what the members must hold, bit for bit."""
    coder = make_codec(codec)  # type: ignore[arg-type]
    inputs = [
        coder.decode(coder.encode(values(seeds[peer_id], num_elements)), num_elements) if weight else None
        for peer_id, weight in zip(order["roster"], order["weights"], strict=True)
    ]
    return coder.decode(coder.encode(weighted_mean(inputs, shares(order["weights"]))), num_elements)


def agreed(outcomes: Sequence[dict[str, Any]]) -> bool:
    """Tell whether all are complete and hold the same bits."""
    return all(outcome["complete"] for outcome in outcomes) and len({o["sha"] for o in outcomes}) == 1


def until(condition: Any, timeout_s: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
