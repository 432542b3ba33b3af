"""All-reduces in virtual time: complete for everybody, for nobody, or torn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paceline.core.records import RoundPlan
from paceline.core.rounds import Staged

if TYPE_CHECKING:
    from paceline.simulate.peer import VirtualPeer
    from paceline.simulate.swarm import VirtualSwarm

_COMPLETE_ANYWAY = 0.3


@dataclass
class Attempt:
    """One all-reduce.

    Attributes:
        plan: The plan, of whoever came first.
        members: Who has joined.
        done: Who has an outcome.
    """

    plan: RoundPlan
    members: dict[str, VirtualPeer] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class Averaging:
    """Where members of one plan meet; they find each other by the plan's digest, as the real ones do."""

    def __init__(self, swarm: VirtualSwarm) -> None:
        """Prepare.

        Args:
            swarm: Whose.
        """
        self._swarm = swarm
        self._attempts: dict[str, Attempt] = {}

    def join(self, peer: VirtualPeer, plan: RoundPlan) -> None:
        """Take part.

        Args:
            peer: Who; told the outcome by `VirtualPeer.averaged`.
            plan: The plan it follows.
        """
        swarm = self._swarm
        attempt = self._attempts.setdefault(plan.digest(), Attempt(plan))
        here = {who: member for who, member in attempt.members.items() if member.attempt is attempt}
        attempt.members = {who: member for who, member in here.items() if member.alive}
        attempt.members[peer.peer_id] = peer
        attempt.done.discard(peer.peer_id)
        peer.attempt = attempt
        swarm.after(swarm.config.pace.start_s, lambda: self._give_up(attempt, peer), peer)
        if set(plan.roster) <= set(attempt.members):
            slowest = max(member.slowness for member in attempt.members.values())
            for member in attempt.members.values():
                takes = swarm.rng.uniform(0.1, 0.4) * (1 + slowest / 3)
                swarm.after(takes, lambda member=member: self._end(attempt, member), member)  # type: ignore[misc]

    def cancel(self, peer: VirtualPeer) -> None:
        """Give up early.

        Args:
            peer: Who.
        """
        if peer.attempt is not None:
            self._close(peer.attempt, peer, None, "")

    def _give_up(self, attempt: Attempt, peer: VirtualPeer) -> None:
        missing = [who for who in attempt.plan.roster if who not in attempt.members]
        broken = missing or self._broken(attempt, peer)
        if peer.attempt is attempt:
            self._close(attempt, peer, None, self._blame(broken))

    def _end(self, attempt: Attempt, peer: VirtualPeer) -> None:
        if peer.attempt is not attempt:
            return
        swarm = self._swarm
        broken = self._broken(attempt, peer)
        fails = swarm.rng.random() >= _COMPLETE_ANYWAY if broken else swarm.rng.random() < swarm.luck.tear
        if fails:
            others = broken or [who for who in attempt.plan.roster if who != peer.peer_id]
            self._close(attempt, peer, None, self._blame(others))
        else:
            self._close(attempt, peer, self._result(attempt.plan, peer), "")

    def _broken(self, attempt: Attempt, peer: VirtualPeer) -> list[str]:
        swarm = self._swarm
        return [
            who
            for who, member in attempt.members.items()
            if not member.alive
            or member.paused
            or (member.attempt is not attempt and who not in attempt.done)
            or not swarm.board.reach(who, peer.peer_id)
        ]

    def _blame(self, suspects: list[str]) -> str:
        rng = self._swarm.rng
        return rng.choice(suspects) if suspects and rng.random() < 0.8 else ""

    def _result(self, plan: RoundPlan, peer: VirtualPeer) -> Staged:
        rng, drift = self._swarm.rng, self._swarm.luck.drift
        salt = peer.peer_id if drift and rng.random() < drift else ""
        digest = hashlib.sha256(f"{plan.digest()}{salt}".encode()).hexdigest()
        return Staged(plan.digest(), digest, digest)

    def _close(self, attempt: Attempt, peer: VirtualPeer, result: Staged | None, blamed: str) -> None:
        peer.attempt = None
        if result is not None:
            attempt.done.add(peer.peer_id)
        peer.averaged(result, blamed)
