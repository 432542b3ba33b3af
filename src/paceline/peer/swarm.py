"""A local swarm: one seed and some peers, each a process tree of its own, started, watched and stopped.

Every peer is an ordinary `paceline join --supervised` with a `node.yaml` of its own, so that one that is gone
for good can be started again by hand with the very same command. Used as

    with LocalSwarm(folder, peers=4) as swarm:
        swarm.start_seed()
        swarm.start_peers()
        while swarm.running():
            for name, told in swarm.news():
                print(name, told.event)
"""

from __future__ import annotations

import os
import random
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

import yaml

from paceline.core.config import NodeConfig, QuorumConfig, SwarmConfig
from paceline.core.errors import ConfigError, JoinError
from paceline.core.events import PeerStarted
from paceline.core.restarts import Restarts
from paceline.network.identity import load_or_create
from paceline.peer.child import COMMAND, Child
from paceline.peer.folders import RunFolder
from paceline.peer.settings import load_handout
from paceline.peer.tail import EventTail, Told

_POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """A peer whose process is gone, and with it the supervisor that would have started it again.

    Attributes:
        name: Which.
        code: Its exit code, negative for a signal.
        reason: Its last words; empty when it finished.
        command: How to start it again.
    """

    name: str
    code: int
    reason: str
    command: str


def found_run(swarm: SwarmConfig, now: datetime) -> tuple[SwarmConfig, RunFolder]:
    """Make the folder of a local run and its peers' keys, and name those peers as founders.

    Args:
        swarm: What to run.
        now: For the folder's name.

    Returns:
        The configuration with the founders filled in, and its new folder `<run_id>-<time>`, which lies in
        the template's `state_dir` if it names one, and in `runs` otherwise.

    Raises:
        ConfigError: These peers can't run on one machine, or are too few to make a round.
    """
    _check_template(swarm)
    base = swarm.node.state_dir if "state_dir" in swarm.node.model_fields_set else Path("runs")
    # The founders' ids are part of the run's digest, hence of its name: the keys must be there first.
    unnamed = RunFolder(base / f".new-{os.getpid()}")
    keys = [load_or_create(unnamed.peer(number).key) for number in range(1, swarm.peers + 1)]
    founders = sorted(key.peer_id for key in keys)
    quorum = QuorumConfig.model_validate({**swarm.run.quorum.model_dump(), "founders": founders})
    founded = swarm.model_copy(update={"run": swarm.run.model_copy(update={"quorum": quorum})})
    named = base / f"{founded.run.run_id}-{now:%Y%m%d-%H%M%S}"
    unnamed.path.rename(named)
    return founded, RunFolder(named)


def _check_template(swarm: SwarmConfig) -> None:
    least, node = swarm.run.quorum.min_members, swarm.node
    if swarm.peers < least:
        raise ConfigError(
            f"{swarm.peers} peers can't make a round that needs {least}",
            f"start more, or --set run.quorum.min_members={swarm.peers}",
        )
    fixed = [address for address in node.network.listen if not address.endswith("/tcp/0")]
    if fixed:
        raise ConfigError(
            f"node.network.listen: all peers would listen on {fixed[0]}", "let it end in /tcp/0"
        )
    if node.metrics.port and swarm.peers > 1:
        raise ConfigError(f"node.metrics.port: {node.metrics.port} is one port for all", "set it to 0")


class LocalSwarm:
    """The processes of a local run. Leaving its `with` block stops them all.

    Guarantees:
        No process outlives the swarm.

    Attributes:
        names: The peers, in the order of their numbers.
    """

    def __init__(
        self,
        folder: RunFolder,
        node: NodeConfig,
        peers: int,
        command: Sequence[str] = COMMAND,
        *,
        supervised: bool = True,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: The run's folder.
            node: What all peers have in common.
            peers: How many.
            command: Path of paceline's program, and its first arguments.
            supervised: Whether a peer that ends unexpectedly is started again.
        """
        self._supervised = supervised
        self._folder, self._node, self._command = folder, node, tuple(command)
        self._states = {f"peer-{number}": folder.peer(number) for number in range(1, peers + 1)}
        self._tails = {name: EventTail(state.events) for name, state in self._states.items()}
        self._peers: dict[str, Child] = {}
        self._addresses: dict[str, str] = {}
        self._seed: Child | None = None
        self._listen: tuple[str, ...] = ()
        self._known_at: tuple[str, ...] = ()
        self._seed_restarts = Restarts()
        self._seed_began_at = self._seed_due_at = float("-inf")
        self._told_ends: set[str] = set()
        self.names = tuple(self._states)

    def __enter__(self) -> LocalSwarm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start_seed(self, listen: Sequence[str], timeout_s: float) -> None:
        """Start the seed and wait until it has written its addresses into the hand-out.

        Args:
            listen: Multiaddrs to listen on.
            timeout_s: How long it may take, in seconds.

        Raises:
            JoinError: It ended, or took too long.
        """
        seed, handout = self._folder.seed, self._folder.handout
        itself = f"/p2p/{load_or_create(seed.key).peer_id}"
        self._listen = tuple(listen)
        self._seed = self._new_seed(self._listen, ())
        deadline = time.monotonic() + timeout_s
        while itself not in handout.read_text(encoding="utf-8"):
            if self._seed.wait(_POLL_S):
                raise JoinError(f"the seed ended: {self._seed.last_words()}", f"see {seed.output}")
            if time.monotonic() > deadline:
                raise JoinError(f"the seed was not up after {timeout_s:.0f} s", f"see {seed.output}")
        known = [address for address in load_handout(handout).seeds if address.endswith(itself)]
        self._known_at = tuple(address.removesuffix(itself) for address in known)

    def keep_seed(self) -> str:
        """Start the seed again when it has ended: peers that start again find the others through it.

        Returns:
            What to tell people; empty when there is nothing new.
        """
        now = time.monotonic()
        if self._seed is None or self._seed.exit_code() is None or not self._supervised:
            return ""
        if self._seed_due_at < self._seed_began_at:
            lived_s = now - self._seed_began_at
            wait_s = self._seed_restarts.wait_s(lived_s=lived_s, committed=False, chance=random.random())
            self._seed_due_at = now + wait_s
            return f"the seed ended: {self._seed.last_words()}; starts again in {wait_s:.0f} s"
        if now >= self._seed_due_at:
            self._seed = self._new_seed(*self._places(self._seed_restarts.count))
        return ""

    def _new_seed(self, listen: Sequence[str], peers: Sequence[str]) -> Child:
        seed = self._folder.seed
        places = [part for address in listen for part in ("--listen", address)]
        others = [part for address in peers for part in ("--peer", address)]
        arguments = ["seed", str(self._folder.handout), "--key", str(seed.key), *places, *others]
        self._seed_began_at = time.monotonic()
        return Child("seed", [*self._command, *arguments], seed.output)

    def _places(self, attempt: int) -> tuple[Sequence[str], Sequence[str]]:
        # Where the seed was, so that those who know it find it again, and in touch with those who are there.
        # None of them may be left, and somebody else may have taken its port: then without, and elsewhere.
        choices = (
            (self._known_at, tuple(self._addresses.values())),
            (self._known_at, ()),
            (self._listen, ()),
        )
        return choices[(attempt - 1) % len(choices)]

    def start_peers(self) -> None:
        """Start every peer with a settings file of its own in its state folder."""
        for name, state in self._states.items():
            node = self._node.model_copy(update={"state_dir": state.path})
            state.path.mkdir(parents=True, exist_ok=True)
            content = yaml.safe_dump(node.model_dump(mode="json"), sort_keys=False)
            state.settings.write_text(f"# Written by paceline up.\n{content}", encoding="utf-8")
            self._peers[name] = Child(name, [*self._command, *self._join(name)], state.output)

    def news(self) -> list[tuple[str, Told]]:
        """Collect what the peers told since the last call.

        Returns:
            Pairs of a peer's name and an event, ordered by time.
        """
        news = [(name, told) for name, tail in self._tails.items() for told in tail.read()]
        for name, told in news:
            if isinstance(told.event, PeerStarted) and told.event.multiaddrs:
                self._addresses[name] = told.event.multiaddrs[0]
        return sorted(news, key=lambda item: item[1].time)

    def ends(self) -> list[Ended]:
        """Tell which peers' processes have ended since the last call.

        Returns:
            Each peer once.
        """
        ended = []
        for name, child in self._peers.items():
            code = child.exit_code()
            if code is not None and name not in self._told_ends:
                self._told_ends.add(name)
                again = shlex.join(["paceline", *self._join(name)])
                ended.append(Ended(name, code, child.last_words() if code else "", again))
        return ended

    def running(self) -> bool:
        """Look whether any peer still runs.

        Returns:
            False once all have ended.
        """
        return any(child.exit_code() is None for child in self._peers.values())

    def pids(self) -> dict[str, int]:
        """Name the processes.

        Returns:
            Process id by peer, and of the `seed`: the processes started here. That of a supervised peer is
            its supervisor's, whose only child is the peer's main process.
        """
        children = {**self._peers, **({"seed": self._seed} if self._seed else {})}
        return {name: child.pid for name, child in children.items()}

    def ask_to_leave(self) -> None:
        """Ask every peer to leave the swarm, without waiting for it."""
        for child in self._peers.values():
            child.ask_to_leave()

    def stop_seed(self, timeout_s: float = 10.0) -> None:
        """Stop the seed, gently at first.

        Args:
            timeout_s: How long it may take to leave, in seconds, before it is killed.
        """
        if self._seed is not None:
            self._seed.ask_to_leave()
            if not self._seed.wait(timeout_s):
                self._seed.kill()

    def kill(self) -> None:
        """End every process at once and wait until it is gone."""
        children = [*self._peers.values(), *([self._seed] if self._seed else [])]
        for child in children:
            child.kill()
        for child in children:
            child.wait(timeout_s=30)

    def _join(self, name: str) -> list[str]:
        arguments = ["join", str(self._folder.handout), "--config", str(self._states[name].settings)]
        return [*arguments, "--supervised"] if self._supervised else arguments
