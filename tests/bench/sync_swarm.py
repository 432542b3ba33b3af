"""Four members on this machine, and what one all-reduce of theirs costs."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tests.bench import private_net, sync_peers
from tests.bench.processes import pss_bytes, used_s
from tests.live.swarms import descendants

_START_S = 120.0
_REDUCE_S = 600.0
_SAMPLED_EVERY_S = 0.02
# Members are forked from a process that has imported hivemind and torch once, and nothing else.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([sync_peers.__name__])


@dataclass(frozen=True)
class Cost:
    """What one all-reduce took of this machine.

    Attributes:
        wall_s: From the word to begin until the last member was done.
        cpu_s: Processor seconds of all processes of all members.
        daemons_s: Those of the network daemons among them.
        wire_bytes: Bytes on the loopback device, headers included.
        error: Root mean square of what the result is off, over that of the true mean.
    """

    wall_s: float
    cpu_s: float
    daemons_s: float
    wire_bytes: int
    error: float


class Swarm:
    """Members that have met."""

    def __init__(self, members: list[Any], pipes: list[Connection], hellos: list[dict[str, Any]]) -> None:
        self._members = members
        self._pipes = pipes
        self._peers = [hello.get("peer_id", "") for hello in hellos]

    def cost(self, link: str = "") -> Cost:
        """Run one all-reduce and measure it.

        Args:
            link: A link that all share; none for what the machine can do.
        """
        self._prepare()
        if link:
            private_net.slow_down(link)
        pids = self._pids()
        used, daemons, sent = used_s(pids), used_s(pids, "p2pd"), private_net.bytes_sent()
        began = time.monotonic()
        answers = self._all("reduce", None, _REDUCE_S)
        sent = private_net.bytes_sent() - sent
        used, daemons = used_s(pids) - used, used_s(pids, "p2pd") - daemons
        private_net.speed_up()
        samples = [sample for _, sample in answers]
        return Cost(max(end for end, _ in answers) - began, used, daemons, sent, _error(samples))

    def peak_bytes(self) -> int:
        """Run one more all-reduce; tell the most memory that all processes held together meanwhile (PSS)."""
        self._prepare()
        peaks: list[int] = []
        pids, done = self._pids(), threading.Event()

        def look() -> None:
            peaks.append(pss_bytes(pids))  # also when it is all over before the next one
            while not done.wait(_SAMPLED_EVERY_S):
                peaks.append(pss_bytes(pids))

        looking = threading.Thread(target=look)
        looking.start()
        try:
            self._all("reduce", None, _REDUCE_S)
        finally:
            done.set()
            looking.join()
        return max(peaks)

    def stop(self) -> None:
        """End all processes, gently."""
        with suppress(EOFError, OSError, TimeoutError):
            self._all("stop", None, 20.0)

    def _prepare(self) -> None:
        self._all("prepare", {"key": secrets.token_hex(32), "peers": self._peers}, _START_S)

    def _all(self, command: str, content: Any, limit_s: float) -> list[Any]:
        for pipe in self._pipes:
            pipe.send((command, content))
        return [_heard(pipe, limit_s) for pipe in self._pipes]

    def _pids(self) -> set[int]:
        return {pid for member in self._members for pid in (member.pid, *descendants(member.pid))}


@contextmanager
def swarm(kind: str, how: str, num_elements: int) -> Iterator[Swarm]:
    """Start four members, each a process tree of its own."""
    members: list[Any] = []
    pipes: list[Connection] = []
    hellos: list[dict[str, Any]] = []
    seeds: list[str] = []
    try:
        for place in range(sync_peers.NUM_PEERS):
            ours, theirs = _FORKS.Pipe()
            settings = {"num_elements": num_elements, "how": how, "seeds": seeds, "place": place}
            member = _FORKS.Process(target=sync_peers.run, args=(kind, settings, theirs))
            member.start()
            theirs.close()
            members.append(member)
            pipes.append(ours)
            if not seeds:
                hellos.append(_heard(ours, _START_S))
                seeds = hellos[0]["seeds"]
        hellos += [_heard(pipe, _START_S) for pipe in pipes[1:]]
        started = Swarm(members, pipes, hellos)
        yield started
        started.stop()
    finally:
        for member in members:
            with suppress(ProcessLookupError):
                os.killpg(member.pid, signal.SIGKILL)
            member.join(30)


def _heard(pipe: Connection, limit_s: float) -> Any:
    if not pipe.poll(limit_s):
        raise TimeoutError("a member gives no answer")
    return pipe.recv()


def _error(samples: list[np.ndarray]) -> float:
    drawn = np.zeros((sync_peers.NUM_PEERS, len(samples[0])), np.float32)
    for place, values in enumerate(drawn):
        sync_peers.draw(place, values)
    mean = drawn.mean(axis=0, dtype=np.float64)
    off = max(np.square(sample - mean).mean() for sample in samples)
    return float(np.sqrt(off / np.square(mean).mean()))
