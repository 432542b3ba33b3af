"""A swarm in virtual time: real round machines, an imaginary board, all-reduce and clock, one seed."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from paceline.core.actions import (
    Action,
    Apply,
    CancelReduce,
    Finish,
    Promise,
    Publish,
    Reduce,
    Repair,
    Tell,
)
from paceline.core.chain import genesis
from paceline.core.config import PaceConfig, QuorumConfig, RunConfig
from paceline.core.events import Event
from paceline.core.records import GlobalState, Phase, Record, RoundPlan, RoundReceipt
from paceline.core.rounds import Remembered, RoundMachine, Staged
from paceline.core.signing import SigningKey
from paceline.core.voice import Progress

POLL_S = 0.4


def peer_ids(count: int) -> list[str]:
    return sorted(SigningKey.from_seed(bytes([n + 1]) * 32).peer_id for n in range(count))


def make_run(founders: list[str], quorum_departure_s: float = 300.0, **overrides: object) -> RunConfig:
    quorum = QuorumConfig(min_members=2, founders=tuple(founders), departure_s=quorum_departure_s)
    fields = {
        "name": "sim",
        "inner_steps": 10,
        "rounds": 6,
        "quorum": quorum,
        "pace": PaceConfig(gather_s=20),
    }
    return RunConfig.model_validate(fields | overrides)


@dataclass
class Disk:
    """What survives a crash. A result stays, whatever becomes of later attempts: somebody voted for it."""

    chain: list[GlobalState]
    promised: Promise = field(default_factory=Promise)
    results: dict[str, Staged] = field(default_factory=dict)

    @property
    def voted_for(self) -> Staged | None:
        return self.results.get(self.promised.vote.plan_digest) if self.promised.vote else None


@dataclass
class VirtualPeer:
    peer_id: str
    disk: Disk
    speed: float
    machine: RoundMachine
    alive: bool = True
    group: int = 0
    finished: bool = False
    life: int = 0
    progress: Progress = field(default_factory=Progress)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)


class VirtualSwarm:
    """Drives machines the way `peer/pacer.py` and `peer/worker.py` do, under faults that tests order."""

    def __init__(self, seed: int, count: int, run: RunConfig | None = None, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.run_config = run or make_run(peer_ids(count))
        self.genesis = genesis(self.run_config, "00" * 32, "11" * 32)
        self.now = 0.0
        self.loss = loss
        self.peers: dict[str, VirtualPeer] = {}
        self.events: list[tuple[float, str, Event]] = []
        self.commits: dict[int, str] = {}
        self.receipts: dict[tuple[str, int, int, int], tuple[str, str]] = {}
        self.violations: list[str] = []
        self.drifts: set[str] = set()
        self.deaf: set[str] = set()  # they read nothing
        self.asleep: set[str] = set()  # their processes are stopped
        self.ahead_s: dict[str, float] = {}  # by how much their clocks are fast
        self.apply_s: dict[str, float] = {}  # how long they take to apply a commit
        self.on_action: Callable[[VirtualPeer, Action], None] = lambda peer, action: None
        self._board: dict[tuple[str, str], tuple[Record, float]] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._seq = 0
        self._reducing: dict[str, set[str]] = {}
        for peer_id in peer_ids(count):
            self.start(peer_id)

    def start(self, peer_id: str, disk: Disk | None = None, speed: float = 1.0) -> VirtualPeer:
        disk = disk or Disk([self.genesis])
        remembered = Remembered(disk.promised, disk.voted_for, disk.chain[-1].round_id)
        machine = RoundMachine(self.run_config, peer_id, disk.chain[-1], self.now, remembered)
        old = self.peers.get(peer_id)
        peer = VirtualPeer(peer_id, disk, speed, machine, life=old.life + 1 if old else 0)
        self.peers[peer_id] = peer
        self.after(self.rng.uniform(0, 1), lambda: self._tick(peer))
        self.after(self.rng.uniform(0, 1), lambda: self._train(peer))
        return peer

    def crash(self, peer_id: str) -> Disk:
        self.stop(peer_id)
        return self.peers[peer_id].disk

    def stop(self, peer_id: str) -> None:
        self.peers[peer_id].alive = False

    def after(self, delay: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, do))

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        end = self.now + limit_s
        while self._queue and self._queue[0][0] <= end:
            self.now, _, do = heapq.heappop(self._queue)
            do()
            if until():
                return True
        return until()

    def live(self) -> list[VirtualPeer]:
        return [peer for peer in self.peers.values() if peer.alive]

    def height(self) -> int:
        return max((peer.disk.chain[-1].round_id for peer in self.peers.values()), default=0)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for _, _, event in self.events if isinstance(event, kind)]

    def _tick(self, peer: VirtualPeer) -> None:
        if not peer.alive or peer.finished:
            return
        if peer.peer_id in self.asleep:
            self.after(POLL_S, lambda: self._tick(peer))
            return
        self._poll(peer)
        self._carry_out(peer, peer.machine.advance(self.now))
        self.after(POLL_S * self.rng.uniform(0.8, 1.2), lambda: self._tick(peer))

    def _poll(self, peer: VirtualPeer) -> None:
        if peer.peer_id in self.deaf:
            return
        clock = self.now + self.ahead_s.get(peer.peer_id, 0.0)
        for (kind, author), (record, visible_at) in list(self._board.items()):
            out_of_reach = self.peers[author].group != peer.group or visible_at > self.now
            hidden = out_of_reach or record.expires_at <= clock
            if hidden or peer.seen.get((kind, author), -1) >= record.seq or self.rng.random() < self.loss:
                continue
            peer.seen[kind, author] = record.seq
            peer.machine.notice(record, b"", self.now)

    def _train(self, peer: VirtualPeer) -> None:
        if not peer.alive or peer.finished:
            return
        if peer.machine.phase is Phase.TRAIN and peer.peer_id not in self.asleep:
            steps = peer.machine.progress.inner_step + 1
            speed = 8 / (0.5 * peer.speed)
            peer.machine.trained(Progress(steps, steps * 8, speed, 2.0), self.now)
        step_s = 0.5 * peer.speed * self.rng.uniform(0.9, 1.1)
        self.after(step_s, lambda: self._train(peer))

    def _carry_out(self, peer: VirtualPeer, actions: list[Action]) -> None:
        for action in actions:
            self.on_action(peer, action)
            if not peer.alive:
                return
            self._do(peer, action)

    def _do(self, peer: VirtualPeer, action: Action) -> None:  # noqa: C901 - one line per action
        match action:
            case Publish(record):
                self._publish(peer, record)
            case Promise():
                peer.disk.promised = action
            case Reduce(plan, donors) if plan.adopts is not None:
                self.after(0.8, partial(self._fetch_result, peer, peer.life, plan, donors))
            case Reduce(plan):
                self._reduce(peer, plan)
            case Apply(commit, _):
                delay = self.apply_s.get(peer.peer_id, 0.3)
                self.after(delay, partial(self._apply, peer, peer.life, commit.state))
            case Repair(donors):
                self.after(1.5, partial(self._repair, peer, peer.life, donors))
            case Finish():
                peer.finished = True
            case Tell(event):
                self.events.append((self.now, peer.peer_id, event))
            case CancelReduce():
                pass
            case _:
                assert_never(action)

    def _publish(self, peer: VirtualPeer, record: Record) -> None:
        self._seq += 1
        stamped = record.model_copy(update={"seq": self._seq, "expires_at": self.now + record.lifetime_s})
        delay = self.rng.uniform(0.01, 0.3)
        self._board[record.kind, peer.peer_id] = (stamped, self.now + delay)
        if isinstance(stamped, RoundReceipt):
            self._check_receipt(stamped)
        peer.machine.notice(stamped, b"", self.now)

    def _check_receipt(self, receipt: RoundReceipt) -> None:
        key = (receipt.peer_id, receipt.round_id, *receipt.ballot)
        said = (receipt.plan_digest, receipt.weights_digest)
        if receipt.weights_digest and self.receipts.setdefault(key, said) != said:
            self.violations.append(f"{receipt.peer_id} contradicts itself in {key}")

    def _reduce(self, peer: VirtualPeer, plan: RoundPlan) -> None:
        joined = self._reducing.setdefault(plan.digest(), set())
        joined.add(peer.peer_id)
        began = self.now
        life = peer.life

        def settle() -> None:
            if not self._is_same(peer, life):
                return
            here = [self.peers[p] for p in plan.roster]
            broken = [p.peer_id for p in here if not p.alive or p.group != peer.group]
            if set(plan.roster) <= joined and not broken:
                salt = peer.peer_id if peer.peer_id in self.drifts else ""
                digest = hashlib.sha256(f"{plan.digest()}{salt}".encode()).hexdigest()
                self._stage(peer, plan, Staged(plan.digest(), digest, digest), "")
            elif broken or self.now > began + 20:
                missing = broken or [p for p in plan.roster if p not in joined]
                self._stage(peer, plan, None, missing[0])
            else:
                self.after(0.5, settle)

        self.after(self.rng.uniform(0.5, 1.5), settle)

    def _fetch_result(self, peer: VirtualPeer, life: int, plan: RoundPlan, donors: tuple[str, ...]) -> None:
        if not self._is_same(peer, life):
            return
        assert plan.adopts is not None
        wanted = Staged(plan.adopts.plan_digest, plan.adopts.weights_digest, plan.adopts.momentum_digest)
        near = [self.peers[d] for d in donors if self.peers[d].alive and self.peers[d].group == peer.group]
        holders = [each for each in (peer, *near) if each.disk.results.get(wanted.plan_digest) == wanted]
        found = wanted if holders else None
        self._stage(peer, plan, found, "")

    def _stage(self, peer: VirtualPeer, plan: RoundPlan, staged: Staged | None, blamed: str) -> None:
        if staged is not None:
            peer.disk.results[staged.plan_digest] = staged
        peer.machine.reduced(plan, staged, blamed)
        self._carry_out(peer, peer.machine.take_pending())

    def _apply(self, peer: VirtualPeer, life: int, state: GlobalState) -> None:
        if not self._is_same(peer, life):
            return
        if state.prev_digest != peer.disk.chain[-1].digest():
            self.violations.append(f"{peer.peer_id} applied round {state.round_id} on another head")
        if self.commits.setdefault(state.round_id, state.digest()) != state.digest():
            self.violations.append(f"two commits of round {state.round_id}")
        peer.disk.chain.append(state)
        peer.machine.applied(state, self.now)

    def _is_same(self, peer: VirtualPeer, life: int) -> bool:
        return peer.alive and self.peers[peer.peer_id].life == life

    def _repair(self, peer: VirtualPeer, life: int, donors: tuple[str, ...]) -> None:
        if not self._is_same(peer, life):
            return
        found = [self.peers[donor] for donor in donors if donor in self.peers]
        reachable = [donor.peer_id for donor in found if donor.alive and donor.group == peer.group]
        if not reachable:
            peer.machine.repair_failed(self.now)
            return
        chain = self.peers[reachable[0]].disk.chain
        mine = peer.disk.chain
        if chain[: len(mine)] != mine:
            self.violations.append(f"{peer.peer_id} stands on a fork")
        peer.disk.chain = list(chain)
        peer.machine.applied(chain[-1], self.now)
