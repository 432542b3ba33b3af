"""A swarm in virtual time: events in order, peers that can be hurt, a board, all-reduces, and a witness."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from random import Random

from paceline.core.chain import genesis
from paceline.core.config import PaceConfig, QuorumConfig, RunConfig
from paceline.core.overlap import OverlapConfig
from paceline.core.records import Phase, Record, RoundPlan
from paceline.core.rounds import RoundMachine
from paceline.core.signing import peer_id_of
from paceline.simulate.averaging import Averaging
from paceline.simulate.disk import Disk
from paceline.simulate.peer import VirtualPeer
from paceline.simulate.weather import Posted, Urgency, VirtualBoard, Weather, urgency_of
from paceline.simulate.witness import Witness

Tell = Callable[[float, str, str], None]
"""Takes the time, a peer's short name and what it does, for people to read; of a fault, no name."""
WALL = 1.7e9


@lru_cache(maxsize=4096)
def peer_name(number: int) -> str:
    """Make a peer id.

    Args:
        number: Which.

    Returns:
        A valid peer id, whose private key nobody knows: virtual peers don't sign.
    """
    return peer_id_of(hashlib.sha256(b"virtual peer %d" % number).digest())


def virtual_run(
    num_founders: int, *, named: bool = True, rounds: int = 100_000, overlaps: bool = False
) -> RunConfig:
    """Make the parameters of a run with short rounds.

    Args:
        num_founders: How many peers begin.
        named: Whether the run names them; if not, any majority of their number begins.
        rounds: Rounds until the run is finished; with overlap an even number.
        overlaps: Whether halves of the model take turns, and training goes on while one is exchanged.

    Returns:
        The run.
    """
    founders = tuple(sorted(peer_name(number) for number in range(num_founders))) if named else ()
    least = 2 if named else num_founders // 2 + 1
    return RunConfig(
        name="virtual",
        inner_steps=8 if overlaps else 4,
        rounds=rounds,
        overlap=OverlapConfig(fragments=2, delay_steps=2) if overlaps else OverlapConfig(),
        # Longer than all trouble of a day: nobody who will come back is ever declared departed.
        quorum=QuorumConfig(min_members=least, founders=founders, departure_s=60),
        pace=PaceConfig(lease_s=5, gather_s=5, start_s=5, stall_s=2, reduce_s=10, grace_s=1.5),
    )


@dataclass
class Luck:
    """How often things go wrong inside peers.

    Attributes:
        tear: Share of members that an all-reduce fails for no reason.
        lost: Share of staged results that can't be read back when they are to be applied.
        failed_repair: Share of repairs that get nothing.
        drift: Share of averages that come out with other bits.
    """

    tear: float = 0.0
    lost: float = 0.0
    failed_repair: float = 0.0
    drift: float = 0.0

    def __str__(self) -> str:
        """Say how it is.

        Returns:
            A sentence.
        """
        return (
            f"of an all-reduce's members {self.tear:.0%} get nothing, {self.drift:.0%} get other bits; "
            f"{self.lost:.0%} of results can't be read back, {self.failed_repair:.0%} of repairs fail"
        )

    def turn_good(self) -> None:
        """Let nothing go wrong any more."""
        self.tear = self.lost = self.failed_repair = self.drift = 0.0


class VirtualSwarm:
    """Peers, what is between them, and the order of events.

    Attributes:
        rng: The day's chance; the only one.
        config: The run.
        now: Virtual seconds.
        peers: The latest life of every identity.
        board: Where records are posted.
        averaging: The all-reduces.
        luck: What goes wrong inside peers.
        witness: Sees everything.
        tell: Is told what happens, or None.
        before: Called before a peer does something, with what it is; may hurt the peer.
        machine_type: The round machine under test.
        num_events: Events that have happened.
        num_fetches: How often a peer has fetched a state from others.
        num_rivalries: How often a coordinator has planned while another took itself for one.
    """

    def __init__(self, seed: int, config: RunConfig, machine_type: type[RoundMachine] = RoundMachine) -> None:
        """Begin a swarm without peers.

        Args:
            seed: Decides everything that happens by chance.
            config: The run.
            machine_type: The round machine, or one with a mistake planted into it.
        """
        self.rng = Random(seed)
        self.config = config
        self.genesis = genesis(config, "00" * 32, "11" * 32)
        self.now = 0.0
        self.peers: dict[str, VirtualPeer] = {}
        self.board: VirtualBoard = VirtualBoard(self.rng, Weather())
        self.averaging = Averaging(self)
        self.luck = Luck()
        self.witness = Witness(self.genesis)
        self.tell: Tell | None = None
        self.before: Callable[[VirtualPeer, object], None] | None = None
        self.machine_type = machine_type
        self.num_events = self.num_fetches = self.num_rivalries = 0
        self._names: dict[str, str] = {}
        self._queue: list[tuple[float, int, VirtualPeer | None, Callable[[], None]]] = []
        self._count = 0

    # Time

    def after(self, delay_s: float, do: Callable[[], None], peer: VirtualPeer | None = None) -> None:
        """Let something happen later.

        Args:
            delay_s: Virtual seconds from now.
            do: What.
            peer: In whose process: dropped if that life has ended, held up while it is paused.
        """
        self._count += 1
        heappush(self._queue, (self.now + delay_s, self._count, peer, do))

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass.

        Args:
            until: When to stop.
            limit_s: Virtual seconds that may pass at most.

        Returns:
            Whether `until` came true.
        """
        end, queue = self.now + limit_s, self._queue
        while queue and queue[0][0] <= end:
            self.now, _, peer, do = heappop(queue)
            if peer is not None:
                if not peer.alive:
                    continue
                if peer.paused:
                    peer.deferred.append(do)
                    continue
            self.num_events += 1
            do()
            if until():
                return True
        self.now = max(self.now, end)
        return until()

    def say(self, peer: VirtualPeer, what: str) -> None:
        """Tell people what a peer does, if anybody listens.

        Args:
            peer: Who.
            what: A few words.
        """
        if self.tell is not None:
            self.tell(self.now, self._names[peer.peer_id], self.in_words(what))

    def note(self, what: str) -> None:
        """Tell people what happens to peers, if anybody listens.

        Args:
            what: A few words.
        """
        if self.tell is not None:
            self.tell(self.now, "", self.in_words(what))

    def in_words(self, what: str) -> str:
        """Replace peer ids by short names: p0, p1 and so on, in the order of their first start.

        Args:
            what: Any text.

        Returns:
            The text, easier to read.
        """
        for peer_id, name in self._names.items():
            what = what.replace(peer_id, name)
        return what

    # Peers

    def start(self, peer_id: str, disk: Disk | None = None) -> VirtualPeer:
        """Start a peer, or start it again.

        Args:
            peer_id: Who.
            disk: What its last life left; None for an empty one.

        Returns:
            Its new life.
        """
        before = self.peers.get(peer_id)
        assert before is None or not before.alive, "a life begins where the last one has ended"
        self._names.setdefault(peer_id, f"p{len(self._names)}")
        peer = VirtualPeer(self, peer_id, disk or Disk([self.genesis]))
        if before is not None:
            peer.slowness, peer.skew_s = before.slowness, before.skew_s
        self.peers[peer_id] = peer
        self.board.show_all(peer.box, self.now)
        peer.boot()
        return peer

    def crash(self, peer: VirtualPeer) -> None:
        """End a life at once; its disk stays.

        Args:
            peer: Whose.
        """
        self.note(f"{peer.peer_id} dies")
        peer.alive = False

    def pause(self, peer: VirtualPeer) -> None:
        """Make a process stand still.

        Args:
            peer: Whose.
        """
        self.note(f"{peer.peer_id} is stopped")
        peer.paused = True

    def resume(self, peer: VirtualPeer) -> None:
        """Let a process go on where it stood.

        Args:
            peer: Whose.
        """
        if not peer.paused or not peer.alive:
            return
        self.note(f"{peer.peer_id} goes on")
        peer.paused = False
        deferred, peer.deferred = peer.deferred, []
        self.after(0.0, peer.carry_on, peer)
        for do in deferred:
            self.after(0.0, do, peer)

    def up(self) -> list[VirtualPeer]:
        """List who runs.

        Returns:
            Live peers, paused ones included, in the order of their first start.
        """
        return [peer for peer in self.peers.values() if peer.alive]

    # Records

    def publish(self, author: VirtualPeer, record: Record) -> Posted:
        """Post a stamped record and send it to everybody.

        Args:
            author: Whose it is.
            record: The record.

        Returns:
            It with its token.
        """
        self.witness.published(record, author.disk)
        urgency = urgency_of(record, self.board.latest(record.kind, record.peer_id))
        if isinstance(record, RoundPlan):
            leading = [peer for peer in self.peers.values() if peer.alive and peer.machine.is_coordinator]
            self.num_rivalries += leading not in ([author], [])
        posted = self.board.post(record, self.now)
        for reader in self.peers.values():
            if reader is not author and reader.alive:
                arrives = self.board.send(posted, reader.box, self.now)
                if urgency is not Urgency.NONE:
                    reader.expect(urgency, arrives)
        return posted

    def describe(self) -> str:
        """Sum up where everybody stands.

        Returns:
            One line.
        """
        return ", ".join(
            f"{peer.peer_id} {peer.machine.standing.round_id} {_condition(peer)}"
            for peer in self.peers.values()
            if peer.alive
        )


def _condition(peer: VirtualPeer) -> str:
    phase: Phase = peer.machine.phase
    return f"{phase.value}{' paused' if peer.paused else ''} term {peer.machine.standing.term}"
