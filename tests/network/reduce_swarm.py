"""Starts peers of `reduce_program` and talks to them; every wait has a generous limit."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import Codec, make_codec
from tests.network import reduce_program

START_S = 90.0
# Peers are forked from a process that has imported hivemind and torch once, and nothing else.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([reduce_program.__name__])
_seeds = itertools.count(1)


class Peer:
    """One peer: a process tree of its own."""

    def __init__(self, **settings: Any) -> None:
        self._pipe, theirs = _FORKS.Pipe()
        self._process = _FORKS.Process(target=reduce_program.run, args=(settings, theirs))
        self._process.start()
        theirs.close()
        self.peer_id = ""
        self.maddrs: list[str] = []
        self.pids: list[int] = []

    @property
    def main_pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_until_up(self) -> None:
        hello = self.hear(START_S)
        self.peer_id, self.maddrs, self.pids = hello["peer_id"], hello["maddrs"], hello["pids"]

    def tell(self, do: str, **arguments: Any) -> None:
        self._pipe.send({"do": do, **arguments})

    def hear(self, timeout_s: float = 60.0) -> dict[str, Any]:
        assert self._pipe.poll(timeout_s), "the peer does not answer"
        answer: dict[str, Any] = self._pipe.recv()
        return answer

    def has_answered(self) -> bool:
        return self._pipe.poll()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.tell(do, **arguments)
        return self.hear()

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole tree."""
        os.killpg(self.main_pid, number)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.kill()
        self._process.join(30)
        self._pipe.close()


@contextmanager
def swarm(num_honest: int, attacks: Sequence[str] = (), **settings: Any) -> Iterator[list[Peer]]:
    """Start peers that know one another: honest ones, then one for each attack."""
    peers = [Peer(seeds=[], **settings)]
    try:
        peers[0].wait_until_up()
        for attack in [""] * (num_honest - 1) + [*attacks]:
            peers.append(Peer(seeds=peers[0].maddrs, attack=attack, **settings))
        for peer in peers[1:]:
            peer.wait_until_up()
        yield peers
    finally:
        for peer in peers:
            peer.kill()


def order_for(peers: Sequence[Peer], weights: Sequence[int] = (), **limits: Any) -> dict[str, Any]:
    """Order an all-reduce; weights are by place in the roster, limits those of a patient run."""
    roster = tuple(sorted(peer.peer_id for peer in peers))
    return {
        "key": secrets.token_hex(32),
        "roster": roster,
        "weights": tuple(weights) or (1,) * len(roster),
        **{"start_s": 30.0, "stall_s": 20.0, "total_s": 120.0, **limits},
    }


def begin(peers: Sequence[Peer], order: dict[str, Any]) -> dict[str, int]:
    """Let peers start an all-reduce, each with values of its own; tells which seed each one draws from."""
    seeds = {peer.peer_id: next(_seeds) for peer in peers}
    for peer in peers:
        peer.tell("reduce", seed=seeds[peer.peer_id], order=order)
    return seeds


def reduce(peers: Sequence[Peer], **limits: Any) -> list[dict[str, Any]]:
    """Run one all-reduce of these peers with equal weights."""
    begin(peers, order_for(peers, **limits))
    return [peer.hear(150.0) for peer in peers]


def expected(
    order: dict[str, Any], seeds: dict[str, int], num_elements: int, codec: str
) -> NDArray[np.float32]:
    """Compute in this one process what the members must hold, bit for bit."""
    up = make_codec(codec)  # type: ignore[arg-type]

    def through(coder: Codec, data: NDArray[np.float32]) -> NDArray[np.float32]:
        return coder.decode(coder.encode(data), num_elements)

    inputs = [
        through(up, reduce_program.values(seeds[peer_id], num_elements)) if weight else None
        for peer_id, weight in zip(order["roster"], order["weights"], strict=True)
    ]
    return through(up.back, weighted_mean(inputs, order["weights"]))


def agreed(outcomes: Sequence[dict[str, Any]]) -> bool:
    """Tell whether all are complete and hold the same bits."""
    return all(outcome["complete"] for outcome in outcomes) and len({o["sha"] for o in outcomes}) == 1


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def status(pid: int) -> str:
    """Read what the kernel says of a process; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return ""


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    said = status(pid)
    return not said or "\nState:\tZ" in said
