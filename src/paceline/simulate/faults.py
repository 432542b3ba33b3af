"""What can go wrong on a day, mixed at random: each day has its own taste for trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paceline.core.actions import Apply, Promise, Publish, Reduce, Repair
from paceline.core.election import has_quorum
from paceline.core.records import CommitRecord, PeerRecord, RoundPlan, RoundReceipt
from paceline.simulate.disk import state_of
from paceline.simulate.peer import VirtualPeer
from paceline.simulate.swarm import VirtualSwarm, peer_name

_MOMENTS: tuple[type | str, ...] = (
    PeerRecord, RoundPlan, RoundReceipt, CommitRecord,
    Promise, Reduce, Apply, Repair, "staged", "promoted", "appended",
)  # fmt: skip
_SLOW = (1.0, 1.0, 2.0, 4.0, 10.0)
MAX_SKEW_S = 30.0


@dataclass
class Ambush:
    """Waits for a peer to do something, and hurts it just before.

    Attributes:
        moment: What it waits for: a record about to be published, an action, or a point within one.
        coordinator: Whether only a coordinator will do.
        strike: What it does to its victim.
    """

    moment: type | str
    coordinator: bool
    strike: Callable[[VirtualPeer], None]

    def matches(self, peer: VirtualPeer, doing: object) -> bool:
        """Decide whether this is the moment.

        Args:
            peer: Who is about to do something.
            doing: An action or a moment's name.

        Returns:
            Whether to strike.
        """
        if self.coordinator and not peer.machine.is_coordinator:
            return False
        what = doing.record if isinstance(doing, Publish) else doing
        return what == self.moment if isinstance(self.moment, str) else type(what) is self.moment


class Trouble:
    """Hurts a swarm at random until `make_peace`.

    Attributes:
        faults: Names of what it has done.
    """

    def __init__(self, swarm: VirtualSwarm, num_peers: int, first_ambush: int) -> None:
        """Choose the day's taste and start its peers.

        Args:
            swarm: Whom to hurt.
            num_peers: How many identities there are from the beginning.
            first_ambush: Chooses the ambush with which the day begins; over many days each kind has its turn.
        """
        self.faults: set[str] = set()
        self._swarm, self._rng = swarm, swarm.rng
        self._num_names = num_peers
        self._dead: list[str] = []
        self._gone: set[str] = set()
        which, where = divmod(first_ambush, len(_MOMENTS))
        strikes = self._strikes()
        self._ambush: Ambush | None = self._lain(_MOMENTS[where], strikes[which % len(strikes)])
        kinds: tuple[Callable[[], None], ...] = (
            self._crash, self._restart, self._replace, self._damage, self._pause, self._slow,
            self._divide, self._isolate, self._heal, self._weather, self._clock, self._lie_in_wait,
            self._lie_in_wait, self._join, self._leave, self._bad_luck,
        )  # fmt: skip
        share = self._rng.choice((0.15, 0.4, 0.8))
        self._kinds = [kind for kind in kinds if self._rng.random() < share] or [self._crash]
        if self._crash in self._kinds:
            self._kinds.append(self._restart)
        self._longest_s = self._rng.choice((1.0, 2.5, 6.0))
        self._over = False
        swarm.luck.drift = self._rng.choice((0.0,) * 9 + (0.15,))
        swarm.before = self._watch
        for number in range(num_peers):
            peer = swarm.start(peer_name(number))
            peer.skew_s = self._rng.uniform(-MAX_SKEW_S, MAX_SKEW_S)
        swarm.after(self._rng.uniform(0.5, 5.0), self._strike)

    def make_peace(self) -> None:
        """Undo what can be undone, and hurt nobody any more."""
        self._over = True
        swarm = self._swarm
        swarm.before, self._ambush = None, None
        swarm.board.blocked.clear()
        swarm.board.weather.clear_up()
        swarm.luck.turn_good()
        for peer in swarm.up():
            swarm.resume(peer)
        while self._dead:
            self._restart()

    def _strike(self) -> None:
        if self._over:
            return
        strike = self._rng.choice(self._kinds)
        self.faults.add(strike.__name__.strip("_"))
        strike()
        self._swarm.after(self._rng.uniform(0.1, self._longest_s), self._strike)

    def _watch(self, peer: VirtualPeer, doing: object) -> None:
        ambush = self._ambush
        if ambush is None or not ambush.matches(peer, doing):
            return
        self._ambush = None
        led = "coordinator" if peer.machine.is_coordinator else "member"
        moment = ambush.moment if isinstance(ambush.moment, str) else ambush.moment.__name__
        self.faults.add(f"{ambush.strike.__name__.strip('_')} a {led} at {moment}")
        ambush.strike(peer)

    # Peers

    def _someone(self) -> VirtualPeer | None:
        up = [peer for peer in self._swarm.up() if not peer.paused]
        if up and self._rng.random() < 0.4:
            leading = [peer for peer in up if peer.machine.is_coordinator]
            return self._rng.choice(leading or up)
        return self._rng.choice(up) if up else None

    def _kill(self, peer: VirtualPeer) -> None:
        self._swarm.crash(peer)
        if peer.peer_id not in self._dead:
            self._dead.append(peer.peer_id)

    def _stop(self, peer: VirtualPeer) -> None:
        self._swarm.pause(peer)
        pause_s = self._rng.choice((1.0, 4.0, 8.0, 20.0)) * self._rng.uniform(0.5, 1.5)
        self._swarm.after(pause_s, lambda: self._swarm.resume(peer))

    def _crash(self) -> None:
        if peer := self._someone():
            self._kill(peer)

    def _restart(self) -> None:
        if self._dead:
            peer_id = self._dead.pop(self._rng.randrange(len(self._dead)))
            self._swarm.start(peer_id, self._swarm.peers[peer_id].disk)

    def _replace(self) -> None:
        # A disk is lost for good; whoever owned it comes back under a new name.
        victims = self._dead or [peer.peer_id for peer in self._swarm.up()]
        if not victims:
            return
        peer_id = self._rng.choice(victims)
        if self._can_spare(peer_id):
            if peer_id in self._dead:
                self._dead.remove(peer_id)
            else:
                self._swarm.crash(self._swarm.peers[peer_id])
            self._gone.add(peer_id)
            self._swarm.note(f"{peer_id} loses its disk, and is gone for good")
            self._join()

    def _damage(self) -> None:
        # The state of a dead peer's last commit is lost, its log is not; others have that state.
        if not self._dead:
            return
        disk = self._swarm.peers[self._dead[-1]].disk
        round_id = disk.head.round_id
        elsewhere = [
            peer for peer in self._swarm.up() if peer.disk.committed.get(round_id) == state_of(disk.head)
        ]
        if elsewhere and round_id:
            self._swarm.note(f"{self._dead[-1]} loses the state of round {round_id} while it is down")
            disk.committed.pop(round_id, None)
            disk.staged.pop(round_id, None)

    def _pause(self) -> None:
        if peer := self._someone():
            self._stop(peer)

    def _slow(self) -> None:
        if peer := self._someone():
            peer.slowness = self._rng.choice(_SLOW)
            self._swarm.note(f"{peer.peer_id} trains {peer.slowness:.0f} times as slowly as it can")

    def _clock(self) -> None:
        if peer := self._someone():
            peer.skew_s = self._rng.uniform(-MAX_SKEW_S, MAX_SKEW_S)
            self._swarm.note(f"the clock of {peer.peer_id} is set {peer.skew_s:+.0f} s off")

    def _join(self) -> None:
        if self._has_begun() and len(self._swarm.up()) < 16:
            peer = self._swarm.start(peer_name(self._num_names))
            peer.skew_s = self._rng.uniform(-MAX_SKEW_S, MAX_SKEW_S)
            self._num_names += 1

    def _has_begun(self) -> bool:
        # Without founders, only as many as `min_members` is meant for may decide who goes first.
        # Whoever comes later must find nobody with whom to begin the run once more.
        there = [peer for peer_id, peer in self._swarm.peers.items() if peer_id not in self._gone]
        return bool(self._swarm.config.quorum.founders) or all(peer.disk.head.round_id for peer in there)

    def _be_joined(self, peer: VirtualPeer) -> None:
        self._join()

    def _leave(self) -> None:
        if peer := self._someone():
            self._dismiss(peer)

    def _dismiss(self, peer: VirtualPeer) -> None:
        if peer.peer_id in (*self._dead, *self._gone):
            return  # caught in an ambush while it leaves already
        if self._can_spare(peer.peer_id) and self._rng.random() < 0.5:
            self._gone.add(peer.peer_id)
        else:
            self._dead.append(peer.peer_id)  # comes back
        peer.leave()

    def _can_spare(self, peer_id: str) -> bool:
        if self._swarm.luck.lost:
            return False  # lost disks and unreadable files together could leave nobody with a result
        others = [peer for peer in self._swarm.peers.values() if peer.peer_id not in (*self._gone, peer_id)]
        if not all(peer.disk.holds(peer.disk.head) for peer in others if peer.disk.head.round_id):
            return False  # someone still needs the state that this peer may be the last to have
        # Whoever may have to back the next commit must not be lost for good: that is the design's limit.
        gone = self._gone | {peer_id}
        swarm = self._swarm
        rosters: list[Iterable[str]] = [peer.disk.head.participating_nodes for peer in swarm.peers.values()]
        for peer in swarm.peers.values():
            rosters += [plan.roster for plan in peer.machine.standing.plans.values()]
            if peer.disk.promised.plan is not None:
                rosters.append(peer.disk.promised.plan.roster)
        quorum = swarm.config.quorum.min_members
        return all(
            has_quorum(set(roster) - gone, set(roster), run_id=swarm.config.run_id, min_members=quorum)
            for roster in rosters
        )

    # What is between them

    def _divide(self) -> None:
        groups = {peer_id: self._rng.randrange(2) for peer_id in self._swarm.peers}
        one_way = self._rng.random() < 0.3
        apart = " ".join(peer_id for peer_id, group in groups.items() if group)
        self._block(
            (
                (author, reader)
                for author in groups
                for reader in groups
                if groups[author] != groups[reader] and (not one_way or groups[author])
            ),
            f"nobody else hears {apart}" if one_way else f"the network parts {apart} from the rest",
        )

    def _isolate(self) -> None:
        # The coordinator and a few are cut off: both sides may believe that theirs leads.
        leading = [peer for peer in self._swarm.up() if peer.machine.is_coordinator]
        if victim := (leading[0] if leading else self._someone()):
            self._cut_off(victim)

    def _cut_off(self, victim: VirtualPeer) -> None:
        share = self._rng.choice((0.0, 0.2, 0.5))
        near = {peer for peer in self._swarm.peers if self._rng.random() < share} | {victim.peer_id}
        self._block(
            (
                (author, reader)
                for author in self._swarm.peers
                for reader in self._swarm.peers
                if (author in near) != (reader in near)
            ),
            f"the network parts {' '.join(sorted(near))} from the rest",
        )

    def _block(self, pairs: Iterable[tuple[str, str]], what: str) -> None:
        self._swarm.board.blocked = set(pairs)
        self._swarm.note(what)

    def _heal(self) -> None:
        if self._swarm.board.blocked:
            self._swarm.note("the network heals")
        self._swarm.board.blocked.clear()

    def _weather(self) -> None:
        weather, rng = self._swarm.board.weather, self._rng
        weather.loss = rng.choice((0.0, 0.1, 0.5))
        weather.stale = rng.choice((0.0, 0.05, 0.3))
        weather.repeats = rng.choice((0.0, 0.1, 0.4))
        weather.delay_s = rng.choice((0.05, 0.2, 1.0))
        weather.filtered = rng.random() < 0.5
        self._swarm.note(str(weather))

    def _bad_luck(self) -> None:
        luck, rng = self._swarm.luck, self._rng
        luck.tear = rng.choice((0.0, 0.05, 0.3))
        luck.failed_repair = rng.choice((0.0, 0.3))
        luck.lost = 0.0 if self._gone else rng.choice((0.0, 0.05))
        luck.drift = rng.choice((0.0, 0.0, 0.05, 0.2))
        self._swarm.note(str(luck))

    def _lie_in_wait(self) -> None:
        self._ambush = self._lain(self._rng.choice(_MOMENTS), self._rng.choice(self._strikes()))

    def _lain(self, moment: type | str, strike: Callable[[VirtualPeer], None]) -> Ambush:
        return Ambush(moment, self._rng.random() < 0.7, strike)

    def _strikes(self) -> tuple[Callable[[VirtualPeer], None], ...]:
        return self._kill, self._kill, self._stop, self._cut_off, self._dismiss, self._be_joined
