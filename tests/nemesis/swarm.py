"""A real swarm to be hurt: a seed and peers, every one a process tree of its own, as users run it.

It differs from `tests.live.swarms` in that every peer can be started again, may live in a place of its own (a
network namespace, a small disk, a share of the processor), and that the times of events are kept.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import yaml

from paceline.core.chain import Link
from paceline.core.config import GptConfig, NodeConfig, RunConfig, SwarmConfig
from paceline.core.events import Event, RoundCommitted, RoundPlanned
from paceline.core.records import CommitRecord, GlobalState
from paceline.core.wire import unseal
from paceline.ledger import LogReader
from paceline.peer.child import Child
from paceline.peer.compose import create_run
from paceline.peer.folders import StateFolder
from paceline.peer.swarm import found_run
from tests.live.swarms import COMMAND, small_node, small_run
from tests.nemesis.peers import Peer

START_S = 240.0
"""How long a swarm may take to start, on a machine that is busy with other things."""
_POLL_S = 0.05


class Place(Protocol):
    """Where the processes of a swarm live."""

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """How to start a program there."""
        ...

    def address(self, name: str) -> str:
        """The IPv4 address there."""
        ...


class Loopback:
    """All on one machine."""

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def address(self, name: str) -> str:
        return "127.0.0.1"


@dataclass(frozen=True)
class Setting:
    """What kind of swarm a fault needs.

    Attributes:
        peers: How many.
        run: What differs from the usual run.
        node: What differs from the usual node.
        supervised: Whether every peer has a supervisor that starts it again.
    """

    peers: int = 5
    run: dict[str, Any] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)
    supervised: bool = True

    def run_config(self) -> RunConfig:
        # Large enough that an all-reduce lasts some tenths of a second, and so can be hit.
        usual = {
            "name": "nemesis",
            "rounds": 100_000,
            "inner_steps": 30,
            "expected_peers": self.peers,
            "model": GptConfig(dim=192, layers=4, heads=4, seq_len=32),
        }
        return small_run(**(usual | self.run))

    def node_config(self) -> NodeConfig:
        return small_node().model_copy(update={"batch_size": 2, **self.node})


class Swarm:
    """A running swarm. Leaving its `with` block ends every process.

    Attributes:
        peers: By name.
        setting: What kind of swarm it is.
        run: The run's parameters.
        handout: The run's hand-out.
    """

    def __init__(self, path: Path, setting: Setting, place: Place | None = None) -> None:
        self.setting, self.place = setting, place or Loopback()
        template = SwarmConfig(
            run=setting.run_config(),
            peers=setting.peers,
            node=setting.node_config().model_copy(update={"state_dir": path}),
        )
        founded, self.folder = found_run(template, datetime.now())
        create_run(founded, self.folder.path)
        self.run, self.node, self.handout = founded.run, founded.node, self.folder.handout
        self._seed_port = _free_port(self.place)
        self._seed: Child | None = None
        self.peers: dict[str, Peer] = {}
        for number in range(1, setting.peers + 1):
            self._prepare(f"peer-{number}", self.folder.peer(number))

    def __enter__(self) -> Swarm:
        try:
            self.start_seed()
            for peer in self.peers.values():
                peer.start()
            self.until(lambda: all(p.events(RoundCommitted) for p in self.peers.values()), START_S, "start")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill everything at once, then wait."""
        for peer in self.peers.values():
            peer.kill()
        for peer in self.peers.values():
            peer.end()
        self.kill_seed()

    def start_seed(self) -> None:
        """Start the seed, always at the same address."""
        seed = self.folder.seed
        listen = f"/ip4/{self.place.address('seed')}/tcp/{self._seed_port}"
        arguments = ["seed", str(self.handout), "--key", str(seed.key), "--listen", listen]
        before = seed.output.read_text() if seed.output.exists() else ""
        self._seed = Child("seed", self.place.command("seed", [*COMMAND, *arguments]), seed.output)
        self.until(lambda: "join by" in seed.output.read_text()[len(before) :], START_S, "the seed is up")

    def kill_seed(self) -> None:
        if self._seed is not None:
            self._seed.kill()
            self._seed.wait(timeout_s=30)
            self._seed = None

    def add(self, name: str, **node: object) -> Peer:
        """Prepare one more peer, without starting it."""
        return self._prepare(name, StateFolder(self.folder.path / name), **node)

    def _prepare(self, name: str, state: StateFolder, **node: object) -> Peer:
        state.path.mkdir(parents=True, exist_ok=True)
        listen = {"listen": (f"/ip4/{self.place.address(name)}/tcp/0",)}
        network = self.node.network.model_copy(update=listen)
        own = {"state_dir": state.path, "network": network, **node}
        document = self.node.model_copy(update=own).model_dump(mode="json")
        state.settings.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        supervised = self.setting.supervised
        extra = ["--supervised"] if supervised else []
        argv = [*COMMAND, "join", str(self.handout), "--config", str(state.settings), *extra]
        self.peers[name] = Peer(name, state, self.place.command(name, argv), supervised=supervised)
        return self.peers[name]

    # Looking at it

    def running(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.runs]

    def coordinator(self) -> Peer:
        """Who named the latest roster: only an acting coordinator does, whatever others believe."""
        return max(self.running(), key=lambda peer: max(peer.when(RoundPlanned), default=0.0))

    def chain(self, peer: Peer) -> dict[int, GlobalState]:
        """The commits in a peer's log, by round; the log may be in use."""
        return {record.state.round_id: record.state for record in self._commits(peer)}

    def author(self, peer: Peer, round_id: int) -> str:
        """Who published the commit of a round, going by a peer's log."""
        return next((c.peer_id for c in self._commits(peer) if c.state.round_id == round_id), "")

    def _commits(self, peer: Peer) -> list[CommitRecord]:
        reader, links = LogReader(peer.state.log), list[Link]()
        try:
            while page := reader.links(len(links), 256):
                links += page
        finally:
            reader.close()
        commits = [unseal(link.commit) for link in links]
        return [commit for commit in commits if isinstance(commit, CommitRecord)]

    def until(
        self, condition: Callable[[], object], limit_s: float, what: str, poll_s: float = _POLL_S
    ) -> None:
        """Wait until something is true.

        Raises:
            NeverCame: It did not become true.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise NeverCame(f"after {limit_s:.0f} s still not: {what}\n{self.diagnosis()}")
            time.sleep(poll_s)

    def diagnosis(self) -> str:
        """What every peer told and printed last."""
        lines = []
        for peer in self.peers.values():
            state = "runs" if peer.runs else f"ended with {peer.exit_code}"
            told = [f"    {t.time:.2f} {t.event!r:.150}" for t in peer.told if _tells(t.event)][-6:]
            printed = [f"    | {line[:150]}" for line in peer.printed().splitlines()[-4:]]
            lines += [f"  {peer.name} {state}, round {peer.height}", *told, *printed]
        return "\n".join(lines)


class NeverCame(Exception):
    """What a fault should have led to did not come in time. The first line says what; the rest, what was."""


def _tells(event: Event) -> bool:
    return event.name != "StepDone"


def _free_port(place: Place) -> int:
    # In a namespace of its own every port is free; a collision there is as unlikely as anywhere.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
