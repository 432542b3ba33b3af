"""One fault happening to one swarm: striking at the right moment, measuring, putting things right again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from paceline.core.errors import PacelineError
from paceline.core.events import AttemptVoided, PeerStarted, RoundCommitted
from paceline.ledger import verify
from paceline.peer.tail import Told
from tests.nemesis import measures, processes
from tests.nemesis.moments import Moment
from tests.nemesis.peers import Peer
from tests.nemesis.swarm import NeverCame, Swarm

ROUND_S = 180.0
"""How long anything that takes a round or two may take, before it counts as failed."""
RETURN_S = 240.0
_STRIKES = 4
_WATCH_S = 0.002
_LATELY = 200
"""So many of a peer's events reach back to the last round at least."""
_GONE_S = 5.0
"""How long the children of a killed process may outlive it."""


@dataclass
class Scene:
    """A fault in progress, and what is known of it.

    Attributes:
        swarm: Whom it happens to.
        say: Tells the person who watches.
        struck_at: When the blow fell, in seconds since 1970.
        round_id: The round that was in progress then.
        closed_s: Seconds until all survivors had committed it.
        lost: Rounds lost.
        drift: Peers and rounds that differ.
        wrong: Promises that were broken.
        slow: Figures that were missed.
        notes: What else is worth knowing.
        figures: Other measurements.
        history_from: From when on commits count as seen; what was before lives on in nobody's log.
    """

    swarm: Swarm
    say: Callable[[str], None]
    began_at: float = field(default_factory=time.time)
    struck_at: float = 0.0
    round_id: int = 0
    closed_s: float | None = None
    lost: int | None = None
    drift: int | None = None
    wrong: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    history_from: float = 0.0

    # Striking

    def strike(self, choose: Callable[[], Peer], moment: Moment, blow: Callable[[Peer], None]) -> Peer:
        """Hurt somebody at a moment of a round, again if the blow came too late for that moment.

        Returns:
            Who was hurt.
        """
        for number in range(1, _STRIKES + 1):
            victim = choose()
            self.round_id = self._await(victim, moment)
            blow(victim)
            self.struck_at = time.time()
            self.say(f"{victim.name} is hurt {moment.name}, in round {self.round_id}")
            if self._hit(victim, moment):
                return victim
            self.notes.append(f"strike {number} came too late")
            self.say("that came too late; once more")
            self.mend()
        raise NeverCame(f"{_STRIKES} strikes all came too late")

    def _await(self, victim: Peer, moment: Moment) -> int:
        victim.listen()
        round_id, start = victim.height + 1, max(0, len(victim.told) - _LATELY)
        if moment.has_come(victim.told[start:], self._others(victim, moment), round_id):
            round_id += 1
        deadline = time.monotonic() + ROUND_S
        while not moment.has_come(victim.told[start:], self._others(victim, moment), round_id):
            if moment.is_over(victim.told[start:], (), round_id):
                round_id += 1  # it passed by without that moment, or faster than we can look
            if time.monotonic() > deadline:
                raise NeverCame(f"{victim.name} was never {moment.name}\n{self.swarm.diagnosis()}")
            time.sleep(_WATCH_S)
            victim.listen()
        return round_id

    def _others(self, victim: Peer, moment: Moment) -> Iterable[Told]:
        if not moment.watches_others:
            return ()
        others = [peer for peer in self.swarm.running() if peer is not victim]
        for peer in others:
            peer.listen()
        return [told for peer in others for told in peer.told[-50:]]

    def _hit(self, victim: Peer, moment: Moment) -> bool:
        time.sleep(0.2)  # what it was writing when the blow fell
        victim.listen()
        before = [told for told in victim.told if told.time <= self.struck_at]
        return not moment.is_over(before, (), self.round_id)

    def struck(self, round_id: int | None = None) -> None:
        """Note that the blow falls now, when it is not aimed at a moment of a round."""
        self.struck_at = time.time()
        heights = [peer.height for peer in self.swarm.running()]
        self.round_id = max(heights, default=0) + 1 if round_id is None else round_id

    # Measuring

    def tales(self, peers: Iterable[Peer] | None = None) -> dict[str, list[Told]]:
        chosen = list(self.swarm.peers.values() if peers is None else peers)
        for peer in chosen:
            peer.listen()
        return {peer.name: peer.told for peer in chosen}

    def measure(self, survivors: Collection[Peer], patience_s: float = ROUND_S) -> None:
        """Wait until survivors have committed the round in progress and one more; compare what they have."""
        self.swarm.until(
            lambda: all(peer.height >= self.round_id for peer in survivors),
            patience_s,
            f"all survivors commit round {self.round_id}",
        )
        closed = measures.closed_s(self.tales(survivors), self.round_id, self.struck_at)
        self.closed_s = closed
        self.say(f"round {self.round_id} is committed by all survivors {closed or 0.0:.1f} s after the blow")
        self.swarm.until(
            lambda: all(peer.height > self.round_id for peer in survivors),
            patience_s,
            f"all survivors commit round {self.round_id + 1}",
        )
        after = measures.closed_s(self.tales(survivors), self.round_id + 1, self.struck_at)
        self.figures["next_round_s"] = after or 0.0
        self.compare(survivors)

    def rounds_pass(self, peers: Collection[Peer], rounds: int) -> None:
        """Wait until peers have committed so many rounds more."""
        target = max(peer.height for peer in peers) + rounds
        self.swarm.until(
            lambda: all(peer.height >= target for peer in peers), rounds * ROUND_S, f"{rounds} rounds pass"
        )

    def compare(self, survivors: Collection[Peer]) -> None:
        """Count rounds lost and drift, as of now; the logs of the survivors must verify and be one chain."""
        chains = {}
        for peer in survivors:
            chains[peer.name] = {r: state.digest() for r, state in self.swarm.chain(peer).items()}
            try:
                verify(peer.state.log)
            except PacelineError as error:
                self.wrong.append(f"the log of {peer.name} does not verify: {error}")
        tales = {
            name: [told for told in tale if told.time >= self.history_from]
            for name, tale in self.tales().items()
        }
        longest = max(chains.values(), key=len, default={})
        known = max(longest, default=0)
        missing = [r for r in measures.missing_rounds(tales, longest) if r <= known]
        anew = measures.rounds_begun_anew(self.tales(survivors), self.struck_at)
        self.lost = len(missing) + len(anew)
        if missing:
            self.notes.append(f"rounds {missing} had been seen committed and are not in the chain")
        if anew:
            self.notes.append(f"rounds {sorted(anew)} were begun anew")
        self.drift = measures.drift(tales, chains, self.struck_at)

    def expect_earned(self, peer: Peer) -> None:
        """Hold every part that a peer had in a commit against what it trained in that very round.

        A peer takes part with steps from the anchor of the commit before, or not at all: what it trained
        before it fell asleep, on an older anchor, is told under that older round.
        """
        (survivor, *_) = [p for p in self.swarm.running() if p is not peer]
        parts = {
            round_id: dict(zip(state.participating_nodes, state.samples, strict=True)).get(peer.peer_id, 0)
            for round_id, state in self.swarm.chain(survivor).items()
        }
        peer.listen()
        stale = measures.unearned(parts, measures.trained(peer.told, self.swarm.node.batch_size))
        self.expect(not stale, f"{peer.name} has parts in rounds {stale} that it did not train")

    def attempts_lost(self, peers: Iterable[Peer]) -> int:
        """Attempts given up since the blow, by whoever coordinated."""
        voids = [v for peer in peers for v in peer.events(AttemptVoided, self.struck_at)]
        if voids:
            self.notes.append(f"attempts voided: {', '.join(sorted({v.cause for v in voids}))}")
        return len({(v.round_id, v.attempt) for v in voids})

    def expect(self, holds: object, otherwise: str) -> None:
        """Check a promise."""
        if not holds:
            self.wrong.append(otherwise)

    def reach(self, value: float, most: float, what: str) -> None:
        """Check a figure that may be missed on a machine that is busy."""
        if value > most:
            self.slow.append(f"{what}: {value:.1f}, at most {most:g} was to be reached")

    # Putting right

    def no_orphans(self, pids: Iterable[int]) -> None:
        """All these processes must be gone soon."""
        deadline = time.monotonic() + _GONE_S
        while left := [pid for pid in pids if processes.is_alive(pid)]:
            if time.monotonic() > deadline:
                self.wrong.append(f"{len(left)} processes outlive their peer by {_GONE_S:.0f} s")
                return
            time.sleep(0.05)

    def mend(self, limit_s: float = RETURN_S) -> None:
        """Start whoever is gone, and wait until everybody is in one roster again."""
        for peer in self.swarm.peers.values():
            if not peer.runs:
                self.say(f"{peer.name} is started again")
                peer.start()
        self.all_together(limit_s)

    def all_together(self, limit_s: float = RETURN_S) -> None:
        """Wait for a round, begun from now on, that all peers commit together."""
        peers, since = list(self.swarm.peers.values()), time.time()

        def together() -> bool:
            told = [peer.events(RoundCommitted, since) for peer in peers]
            full = [{e.round_id for e in events if e.members == len(peers)} for events in told]
            return bool(set.intersection(*full))

        self.swarm.until(together, limit_s, "everybody is back in one roster")

    def note_return(self, peer: Peer, since: float) -> None:
        """Wait until a peer that somebody else starts is up again, and note how long that took."""
        self.swarm.until(lambda: peer.when(PeerStarted, since), RETURN_S, f"{peer.name} comes back")
        self.figures["back_s"] = peer.when(PeerStarted, since)[0] - since
