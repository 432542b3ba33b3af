"""One real swarm on this machine, and what a round costs each of its peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from paceline.core.config import GptConfig, NetworkConfig, NodeConfig, PaceConfig, RunConfig
from paceline.core.events import RoundCommitted
from paceline.peer.tail import EventTail
from tests.bench import private_net
from tests.bench.counted_calls import CALLS, COMMAND, TALLY, tally
from tests.bench.processes import pss_bytes, used_s
from tests.live.swarms import LiveSwarm, descendants, live_swarm, small_node

_START_S, _WINDOW_S, _VISIT_S = 600.0, 300.0, 300.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Cost:
    """What a swarm of one size costs. Per peer and round, but for what is said to be otherwise.

    Attributes:
        peers: How many.
        start_s: Until all of them had committed two rounds.
        rounds_s: Every measured round: from one commit of the first peer to its next.
        calls: By the names in `tests.bench.counted_calls.CALLS`.
        cpu_s: Processor seconds of all processes of a peer.
        wire_bytes: Bytes on the loopback device, headers included; None where others use it, too.
        pss_bytes: Memory of a peer's processes.
        latency_s: Each call of a visitor, by kind.
    """

    peers: int
    start_s: float
    rounds_s: list[float]
    calls: dict[str, float]
    cpu_s: float
    wire_bytes: float | None
    pss_bytes: float
    latency_s: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Meter:
    calls: Counter[str]
    cpu_s: float
    wire_bytes: int


def tiny_run(peers: int) -> RunConfig:
    """A run that has next to nothing to train: what is left is the protocol."""
    return RunConfig(
        name="scale",
        expected_peers=peers,
        inner_steps=2,
        rounds=1_000_000,
        model=GptConfig(dim=16, layers=1, heads=2, seq_len=16),
        # Dozens of peers that start on two cores are late, not dead.
        pace=PaceConfig(lease_s=30.0, start_s=60.0, stall_s=30.0),
    )


def tiny_node() -> NodeConfig:
    """A node as small, which looks at the board as often as any."""
    network = NetworkConfig(listen=("/ip4/127.0.0.1/tcp/0",), relay=False)
    return small_node().model_copy(update={"batch_size": 1, "eval_batches": 0, "network": network})


def cost_of(peers: int, rounds: int, lookups: int, alone: bool) -> Cost:
    """Start a swarm, let it commit some rounds, and ask its board as a visitor.

    Args:
        peers: How many.
        rounds: Rounds to measure.
        lookups: Calls of each kind by the visitor.
        alone: Whether the loopback device is nobody else's.

    Returns:
        What it took.

    Raises:
        TimeoutError: It did not commit that many rounds in time.
        RuntimeError: The visitor failed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="paceline-bench-") as name:
        folder, tallies = Path(name) / "runs", Path(name) / "tallies"
        tallies.mkdir()
        os.environ[TALLY] = str(tallies)
        with live_swarm(folder, tiny_run(peers), peers, tiny_node(), command=COMMAND) as swarm:
            swarm.until(lambda: all(swarm.height(peer) >= 2 for peer in swarm.states), _START_S)
            start_s = time.monotonic() - began
            tail = EventTail(swarm.states["peer-1"].events)
            tail.skip()
            commits = _commits(tail, 1)
            before = _read(swarm, tallies)
            commits += _commits(tail, rounds)
            after = _read(swarm, tallies)
            memory = pss_bytes(pid for tree in _trees(swarm) for pid in tree)
            latency_s = _visited(swarm.folder.handout, lookups) if lookups else {}
    each = peers * (len(commits) - 1)
    return Cost(
        peers=peers,
        start_s=start_s,
        rounds_s=[later - earlier for earlier, later in pairwise(commits)],
        calls={name: (after.calls[name] - before.calls[name]) / each for name in CALLS.values()},
        cpu_s=(after.cpu_s - before.cpu_s) / each,
        wire_bytes=(after.wire_bytes - before.wire_bytes) / each if alone else None,
        pss_bytes=memory / peers,
        latency_s=latency_s,
    )


def _commits(tail: EventTail, count: int) -> list[float]:
    # When the first peer committed. The meters are read right after a commit, so that they see whole rounds.
    moments: list[float] = []
    deadline = time.monotonic() + _WINDOW_S
    while len(moments) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(moments)} of {count} rounds in {_WINDOW_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)
        moments += [told.time for told in tail.read() if isinstance(told.event, RoundCommitted)]
    return moments


def _trees(swarm: LiveSwarm) -> list[set[int]]:
    mains = [swarm.main_pid(name) for name in swarm.local.names]
    return [{main, *descendants(main)} for main in mains]


def _read(swarm: LiveSwarm, tallies: Path) -> _Meter:
    mains = [swarm.main_pid(name) for name in swarm.local.names]
    calls = sum((tally(tallies, main) for main in mains), Counter())
    used = used_s(pid for tree in _trees(swarm) for pid in tree)
    return _Meter(calls, used, private_net.bytes_sent())


def _visited(handout: Path, lookups: int) -> dict[str, list[float]]:
    # A process of its own: a node is forked, and only from one that has no threads yet.
    command = [sys.executable, "-m", "tests.bench.visitor", str(handout), str(lookups)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_VISIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"the visitor failed: {done.stderr[-800:]}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found
