"""One virtual peer: drives a `RoundMachine` the way `peer/pacer.py` and `peer/worker.py` do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

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
from paceline.core.chain import Link
from paceline.core.errors import HistoryBroken
from paceline.core.records import (
    CommitRecord,
    GlobalState,
    PeerRecord,
    Phase,
    Record,
    RoundPlan,
)
from paceline.core.rounds import Remembered, RoundMachine, Staged
from paceline.core.voice import Progress
from paceline.simulate.disk import Disk, PromiseBroken, State, state_of
from paceline.simulate.telling import spell
from paceline.simulate.weather import Mailbox, Urgency
from paceline.simulate.witness import Violation

if TYPE_CHECKING:
    from paceline.simulate.averaging import Attempt
    from paceline.simulate.swarm import VirtualSwarm

_POLL_S, _TRAINING_TICK_S, _TICK_S = 0.3, 1.8, 0.9
_STEP_S, _SAMPLES = 0.5, 8
_NEVER = float("inf")
_EXCHANGING = (Phase.WAIT, Phase.REDUCE, Phase.ATTEST, Phase.APPLY)
Order = Reduce | Apply | Repair | Finish


class VirtualPeer:
    """One life of one identity.

    Attributes:
        peer_id: Who.
        disk: What survives this life.
        machine: The round protocol.
        alive: Whether this life goes on.
        paused: Whether its process stands still.
        finished: Whether it has left by itself.
        slowness: How many times slower than the fastest it trains.
        skew_s: How far its wall clock is off.
        box: Records on their way to it.
        deferred: What would have happened while it stood still.
        attempt: The all-reduce it is in.
    """

    def __init__(self, swarm: VirtualSwarm, peer_id: str, disk: Disk) -> None:
        """Come to life with what the disk says; `boot` begins.

        Args:
            swarm: Where.
            peer_id: Who.
            disk: What an earlier life left.
        """
        self.peer_id, self.disk, self._swarm = peer_id, disk, swarm
        self.alive, self.paused, self.finished = True, False, False
        self.slowness, self.skew_s = 1.0, 0.0
        self.box = Mailbox()
        self.deferred: list[Callable[[], None]] = []
        self.attempt: Attempt | None = None
        self.machine = self._restore()
        self._actions: deque[Action] = deque()
        self._orders: deque[Order] = deque()
        self._order: Order | None = None
        self._working = self._stepping = False
        self._ahead = 0  # steps of the next round
        self._wakes_at, self._polled_at = _NEVER, float("-inf")
        self._said = ""
        self._last_seq: dict[str, int] = {}
        self._last_expiry: dict[str, float] = {}
        self._stands: State | None = state_of(self.machine.standing.head)

    @property
    def wall(self) -> float:
        """This peer's clock, seconds since 1970."""
        return 1.7e9 + self._swarm.now + self.skew_s

    def boot(self) -> None:
        """Begin to read the board and to train."""
        self._swarm.say(self, f"starts at round {self.machine.standing.round_id}")
        self.wake_within(self._swarm.rng.uniform(0.0, 0.5))
        self._swarm.after(self._swarm.rng.uniform(0.0, 0.5), self._work, self)
        self._working = True

    def leave(self) -> None:
        """Take leave on the board and end."""
        self._swarm.say(self, "leaves")
        self.machine.leave()
        self._carry_out(self.machine.advance(self._swarm.now))
        self.alive, self.finished = False, True

    # The pacer's part

    def expect(self, urgency: Urgency, arrives: float) -> None:
        """Learn that a record is on its way: wake for it if anything may hang on it.

        Args:
            urgency: For whom it matters.
            arrives: When it comes.
        """
        machine = self.machine
        if (
            urgency is Urgency.ALL
            or (urgency is not Urgency.NONE and machine.is_coordinator)
            or (urgency is Urgency.VOTE and machine.standing.commits)
        ):
            self._wake_at(max(arrives, self._polled_at + _POLL_S))

    def wake_within(self, delay_s: float) -> None:
        """Take a turn soon.

        Args:
            delay_s: At the latest after so many virtual seconds.
        """
        self._wake_at(self._swarm.now + delay_s)

    def carry_on(self) -> None:
        """Go on after standing still, with what was known before."""
        self._carry_out([])
        if self._swarm.rng.random() < 0.5 and self.alive and not self.paused:
            self._carry_out(self.machine.advance(self._swarm.now))
        self._wakes_at = _NEVER
        self.wake_within(self._swarm.rng.uniform(0.0, 0.3))

    def _wake_at(self, at: float) -> None:
        if at < self._wakes_at:
            self._wakes_at = at
            self._swarm.after(at - self._swarm.now, lambda: self._wake(at), self)

    def _wake(self, at: float) -> None:
        if at == self._wakes_at:
            self._wakes_at = _NEVER
            self._turn()

    def _turn(self) -> None:
        swarm, machine, now = self._swarm, self.machine, self._swarm.now
        self._polled_at = now
        news = swarm.board.collect(self.peer_id, self.box, now, self.wall)
        for record, sealed, (kind, author), seq in news:
            if author == self.peer_id:  # of an earlier life, perhaps with another clock
                self._last_seq[kind] = max(seq, self._last_seq.get(kind, 0))
                self._last_expiry[kind] = max(record.expires_at, self._last_expiry.get(kind, 0.0))
            if author != self.peer_id or kind != PeerRecord.kind:
                machine.notice(record, sealed, now)
        self._carry_out(machine.advance(now))
        tick_s = _TRAINING_TICK_S if machine.is_unhurried else _TICK_S
        self.wake_within(tick_s * swarm.rng.uniform(0.6, 1.0))
        self._start_working()

    def _carry_out(self, actions: list[Action]) -> None:
        self._actions.extend(actions)
        while self._actions and self.alive and not self.paused:
            action = self._actions[0]
            if self._swarm.before is not None:
                self._swarm.before(self, action)
                if not self.alive or self.paused:
                    return
            self._actions.popleft()
            if self._swarm.tell is not None and (words := spell(action)) not in ("", self._said):
                self._said = words
                self._swarm.say(self, words)
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Publish(record):
                self._publish(record)
            case Promise():
                self._remember(action)
            case CancelReduce():
                if self.attempt is not None:
                    self._swarm.after(0.05, lambda: self._swarm.averaging.cancel(self), self)
            case Reduce() | Apply() | Repair() | Finish():
                self._orders.append(action)
                self._start_working()
            case Tell():
                pass
            case _:
                assert_never(action)

    def _publish(self, draft: Record) -> None:
        # As network/board.py stamps it: in one place both the number and the expiry only grow.
        kind, wall = draft.kind, self.wall
        seq = max(int(wall * 1000), self._last_seq.get(kind, 0) + 1)
        expires_at = max(wall + draft.lifetime_s, self._last_expiry.get(kind, 0.0) + 1e-3)
        record = draft.model_copy(update={"seq": seq, "expires_at": expires_at})
        self._last_seq[kind], self._last_expiry[kind] = seq, expires_at
        posted = self._swarm.publish(self, record)
        self.machine.notice(record, posted.sealed, self._swarm.now)

    def _remember(self, promise: Promise) -> None:
        try:
            self.disk.remember(promise)
        except PromiseBroken as broken:
            raise Violation("promises are kept", f"{self.peer_id}: {broken}") from broken

    # The worker's part

    def _start_working(self) -> None:
        if not self._working:
            self._working = True
            self._swarm.after(0.02, self._work, self)

    def _work(self) -> None:
        if self._stepping:
            return  # orders are taken between steps
        if self._order is None and self._orders:
            self._order = self._orders.popleft()
            self._begin(self._order)
        trains = self._order is None and self.machine.phase is Phase.TRAIN
        if trains or self._may_go_ahead():
            self._stepping = True
            takes = _STEP_S * self.slowness * self._swarm.rng.uniform(0.9, 1.1)
            self._swarm.after(takes, self._step, self)
        elif self._order is None:
            self._working = False

    def _may_go_ahead(self) -> bool:
        most = self._swarm.config.timetable.most_ahead(self.machine.standing.round_id)
        return self.machine.phase in _EXCHANGING and self._ahead < most

    def _step(self) -> None:
        self._stepping = False
        machine = self.machine
        if machine.phase is Phase.TRAIN:
            # What was done for the next round counts for this one if that goes on after all.
            machine.trained(self._progress(machine.progress.inner_step + self._ahead + 1), self._swarm.now)
            self._ahead = 0
            self._swarm.witness.trained(self.peer_id, _SAMPLES)
            if machine.phase is not Phase.TRAIN:
                self.wake_within(0.0)
        elif self._may_go_ahead():
            self._ahead += 1
            self._swarm.witness.trained(self.peer_id, _SAMPLES)
        self._work()

    def _progress(self, steps: int) -> Progress:
        return Progress(steps, steps * _SAMPLES, _SAMPLES / (_STEP_S * self.slowness), 2.0)

    def _begin(self, order: Order) -> None:
        swarm = self._swarm
        match order:
            case Reduce(plan, donors) if plan.adopts is not None:
                swarm.after(swarm.rng.uniform(0.2, 1.0), lambda: self._adopt(plan, donors), self)
            case Reduce(plan):
                swarm.averaging.join(self, plan)
            case Apply(commit, link):
                swarm.after(swarm.rng.uniform(0.05, 0.3), lambda: self._apply(commit, link), self)
            case Repair(donors):
                swarm.after(swarm.rng.uniform(0.3, 1.5), lambda: self._repair(donors), self)
            case Finish():
                self.leave()
            case _:
                assert_never(order)

    def _end_order(self) -> None:
        self._order = None
        self.wake_within(0.0)
        self._work()

    def averaged(self, result: Staged | None, blamed: str) -> None:
        """Take the outcome of the all-reduce that this peer is in.

        Args:
            result: The whole result, or None.
            blamed: Who is held responsible for a failure.
        """
        assert isinstance(self._order, Reduce)
        plan = self._order.plan
        if result is not None:
            self._swarm.say(self, f"has the whole average {result.weights_digest[:6]}")
            self.disk.stage(plan.round_id, state_of(result))
            if self._is_hurt("staged"):
                return
        self._report(plan, result, blamed)

    def _report(self, plan: RoundPlan, result: Staged | None, blamed: str) -> None:
        self.machine.reduced(plan, result, blamed)
        self._end_order()

    def _is_hurt(self, moment: str) -> bool:
        if self._swarm.before is not None:
            self._swarm.before(self, moment)
        return not self.alive

    def _adopt(self, plan: RoundPlan, donors: tuple[str, ...]) -> None:
        vote = plan.adopts
        assert vote is not None
        if not self.disk.holds(vote):
            if not self._lent(vote.round_id, state_of(vote), donors):
                self._report(plan, None, "")
                return
            self.disk.stage(vote.round_id, state_of(vote))
        if not self._is_hurt("staged"):
            self._report(plan, Staged(vote.plan_digest, *state_of(vote)), "")

    def _lent(self, round_id: int, wanted: State, donors: tuple[str, ...]) -> bool:
        for donor in self._donors(donors):
            disk = donor.disk
            if disk.committed.get(round_id) == wanted or wanted in disk.staged.get(round_id, ()):
                return True
        return False

    def _donors(self, donors: tuple[str, ...]) -> list[VirtualPeer]:
        swarm = self._swarm
        if swarm.luck.failed_repair and swarm.rng.random() < swarm.luck.failed_repair:
            return []
        found = [swarm.peers[who] for who in donors if who != self.peer_id]
        return [d for d in found if d.alive and not d.paused and swarm.board.reach(d.peer_id, self.peer_id)]

    def _apply(self, commit: CommitRecord, link: Link) -> None:
        swarm, state = self._swarm, commit.state
        if swarm.luck.lost and swarm.rng.random() < swarm.luck.lost and self._is_held_elsewhere(commit.state):
            swarm.say(self, "finds its result unreadable")
            self.disk.staged.pop(state.round_id, None)
        if not self.disk.promote(state):
            self.machine.lost_result(swarm.now)
            self._end_order()
            return
        self._stands = self.disk.committed[state.round_id]
        if self._is_hurt("promoted"):
            return
        self._append(link)
        if self._is_hurt("appended"):
            return
        self._settle()

    def _is_held_elsewhere(self, state: GlobalState) -> bool:
        held = [peer for peer in self._swarm.peers.values() if peer is not self and peer.disk.holds(state)]
        return len(held) >= 2

    def _append(self, link: Link) -> None:
        swarm = self._swarm
        try:
            self.disk.append(link, swarm.config, swarm.board.unseal)
        except HistoryBroken as broken:
            raise Violation("the chain verifies", f"{self.peer_id}: {broken}") from broken
        swarm.witness.applied(self.peer_id, self.disk)

    def _settle(self) -> None:
        head = self.disk.head
        self._swarm.witness.stands_on(self.peer_id, head, self._stands)
        self.disk.tidy()
        self.machine.applied(head, self._swarm.now, self._progress(self._ahead))
        self._ahead = 0
        self._swarm.say(self, f"stands on round {head.round_id}")
        self._end_order()

    def _repair(self, donors: tuple[str, ...]) -> None:
        swarm, mine = self._swarm, self.disk.head.round_id
        found = self._donors(donors)
        links = max((donor.disk.links[mine:] for donor in found[:1]), key=len, default=[])
        head = swarm.board.unseal(links[-1].commit) if links else None
        state = head.state if isinstance(head, CommitRecord) else self.disk.head
        if not found or (state.round_id and not self._lent(state.round_id, state_of(state), donors)):
            self.machine.repair_failed(swarm.now)
            self._end_order()
            return
        self.disk.committed[state.round_id] = state_of(state)
        swarm.num_fetches += 1
        for link in links:
            self._append(link)
            if self._is_hurt("appended"):
                return
        self._stands, self._ahead = state_of(state), 0
        self._settle()

    def _restore(self) -> RoundMachine:
        # As peer/compose.py: a log whose head has no state on this disk is as good as none.
        swarm, disk = self._swarm, self.disk
        promised = disk.promised
        head = disk.head if disk.promote(disk.head) else swarm.genesis
        remembered = Remembered(promised, disk.recall(promised.vote), disk.head.round_id)
        return swarm.machine_type(swarm.config, self.peer_id, head, swarm.now, remembered)
