"""Real swarms on loopback for the live tests: every peer a process tree of its own, as users run it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from paceline.core.config import (
    AdamWConfig,
    GptConfig,
    InnerConfig,
    MetricsConfig,
    NetworkConfig,
    NodeConfig,
    QuorumConfig,
    RunConfig,
    SwarmConfig,
)
from paceline.core.events import CoordinatorChanged, Event, PeerStarted, RoundCommitted
from paceline.core.records import CommitRecord, GlobalState
from paceline.core.wire import unseal
from paceline.ledger import LogReader, VerifiedLog, verify
from paceline.peer.child import Child
from paceline.peer.compose import create_run
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.settings import load_handout
from paceline.peer.swarm import LocalSwarm, found_run
from paceline.peer.tail import EventTail

COMMAND = (sys.executable, "-m", "paceline.cli")
PATIENCE_S = 240.0
E = TypeVar("E", bound=Event)


def small_run(**overrides: object) -> RunConfig:
    """A run whose rounds take a few seconds on a busy machine."""
    fields: dict[str, object] = {
        "name": "live",
        "inner_steps": 30,
        "rounds": 6,
        "model": GptConfig(dim=64, layers=2, heads=2, seq_len=64),
        "inner": InnerConfig(optimizer=AdamWConfig(lr=3e-3)),
        "quorum": QuorumConfig(min_members=2),
    }
    return RunConfig.model_validate(fields | overrides)


def small_node() -> NodeConfig:
    """A node that shares two cores with four others."""
    return NodeConfig(
        device="cpu",
        threads=1,
        batch_size=4,
        eval_batches=1,
        network=NetworkConfig(listen=("/ip4/127.0.0.1/tcp/0",), relay=False),
        metrics=MetricsConfig(port=0),
    )


class LiveSwarm:
    """A running swarm, seen through its peers' event files."""

    def __init__(
        self, local: LocalSwarm, folder: RunFolder, run: RunConfig, supervised: bool = False
    ) -> None:
        self.local, self.folder, self.run, self.supervised = local, folder, run, supervised
        self.states = {name: folder.peer(number) for number, name in enumerate(local.names, start=1)}
        self.extra: list[Child] = []
        self._tails = {name: EventTail(state.events) for name, state in self.states.items()}
        self._events: dict[str, list[Event]] = {name: [] for name in self.states}

    def add(self, name: str, state: StateFolder, child: Child) -> None:
        self.states[name] = state
        self._tails[name], self._events[name] = EventTail(state.events), []
        self.extra.append(child)

    def events(self, name: str, kind: type[E]) -> list[E]:
        self._events[name] += [told.event for told in self._tails[name].read()]
        return [event for event in self._events[name] if isinstance(event, kind)]

    def height(self, name: str) -> int:
        return max((event.round_id for event in self.events(name, RoundCommitted)), default=0)

    def peer_id(self, name: str) -> str:
        return self.events(name, PeerStarted)[0].peer_id

    def coordinator(self) -> str:
        """Name of the peer that most recently went to the front, by its own account."""
        terms = {
            name: max((e.term for e in self.events(name, CoordinatorChanged) if e.is_me), default=-1)
            for name in self.states
        }
        return max(terms, key=lambda name: terms[name])

    def main_pid(self, name: str) -> int:
        """The peer's main process; of a supervised peer, that of its present life."""
        extra = {child.name: child.pid for child in self.extra}
        if name in extra or not self.supervised:
            return {**self.local.pids(), **extra}[name]
        supervisor = self.local.pids()[name]
        self.until(lambda: children_of(supervisor))  # it may be waiting for the next life
        return children_of(supervisor)[0]

    def kill(self, name: str) -> None:
        """Kill what LocalSwarm started: a supervised peer goes with its supervisor, as if a machine died."""
        os.kill(self.local.pids()[name], signal.SIGKILL)

    def until(self, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"it never came true; see {self.diagnosis()}"
            time.sleep(0.1)

    def diagnosis(self) -> str:
        tails = {name: [repr(e)[:160] for e in self.events(name, Event)[-6:]] for name in self.states}
        printed = {
            name: state.output.read_text()[-800:] if state.output.exists() else ""
            for name, state in self.states.items()
        }
        return f"{tails}\n{printed}"

    def logs(self, *names: str) -> dict[str, VerifiedLog]:
        return {name: verify(self.states[name].log) for name in names}


@contextmanager
def live_swarm(
    path: Path,
    run: RunConfig,
    peers: int,
    node: NodeConfig | None = None,
    supervised: bool = False,
    command: Sequence[str] = COMMAND,
) -> Iterator[LiveSwarm]:
    """Start a seed and some peers as `paceline up` does, supervised or not, and end them all at the end."""
    node = (node or small_node()).model_copy(update={"state_dir": path})
    template = SwarmConfig(run=run, peers=peers, node=node)
    swarm, folder = found_run(template, datetime.now())
    create_run(swarm, folder.path)
    with LocalSwarm(folder, swarm.node, peers, command, supervised=supervised) as local:
        local.start_seed(swarm.node.network.listen, 180.0)
        local.start_peers()
        live = LiveSwarm(local, folder, swarm.run, supervised)
        try:
            yield live
        finally:
            for child in live.extra:
                child.kill()
                child.wait(timeout_s=30)


def seed_address(swarm: LiveSwarm) -> str:
    return load_handout(swarm.folder.handout).seeds[0]


def commits_in(log: Path) -> list[GlobalState]:
    """What a run log commits, round after round."""
    reader = LogReader(log)
    records = [unseal(link.commit) for link in reader.links(0, 256)]
    reader.close()
    return [record.state for record in records if isinstance(record, CommitRecord)]


def descendants(pid: int) -> set[int]:
    """All processes below one, found through /proc."""
    parents = _parents()
    found, frontier = set(), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found |= frontier
    return found


def children_of(pid: int) -> list[int]:
    """The processes right below one."""
    return [child for child, parent in _parents().items() if parent == pid]


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    re.sub(r".*\) \w (\d+) .*", r"\1", (entry / "stat").read_text(), flags=re.S)
                )
            except (FileNotFoundError, ProcessLookupError, ValueError):
                continue
    return parents
