"""Faults: a peer dies at once, at a moment of the round that is chosen, or one of its processes does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from paceline.core.events import PeerStarted
from tests.nemesis import moments
from tests.nemesis.moments import Moment
from tests.nemesis.peers import Peer
from tests.nemesis.processes import parts
from tests.nemesis.scene import Scene

_TRIES = 3


def a_member(scene: Scene) -> Peer:
    """A peer that does not coordinate, and another one each time."""
    front = scene.swarm.coordinator()
    members = [peer for peer in scene.swarm.running() if peer is not front]
    return min(members, key=lambda peer: (len(peer.events(PeerStarted)), peer.name))


def killed(choose: Callable[[Scene], Peer], moment: Moment) -> Callable[[Scene], None]:
    """A whole peer is killed at a moment, and started again once the others have gone on."""

    def act(scene: Scene) -> None:
        for _ in range(_TRIES):
            front = scene.swarm.coordinator()
            victim = _kill_and_measure(scene, choose, moment)
            scene.mend()
            author = scene.swarm.author(scene.swarm.running()[0], scene.round_id)
            in_time = (author == victim.peer_id) == moment.commits_before
            if victim is not front or in_time or scene.wrong:
                return
            scene.notes.append("once more: its commit had left already, or not yet")
        scene.notes.append("no strike fell between the two")

    return act


def _kill_and_measure(scene: Scene, choose: Callable[[Scene], Peer], moment: Moment) -> Peer:
    family: set[int] = set()

    def chosen() -> Peer:
        peer = choose(scene)
        family.clear()
        family.update(peer.family())  # before the moment: it takes a while to look
        return peer

    victim = scene.strike(chosen, moment, Peer.kill)
    scene.no_orphans(family)
    scene.measure([peer for peer in scene.swarm.running() if peer is not victim])
    scene.figures["attempts_lost"] = scene.attempts_lost(scene.swarm.running())
    return victim


def member_killed(moment: Moment) -> Callable[[Scene], None]:
    return killed(a_member, moment)


def coordinator_killed(moment: Moment) -> Callable[[Scene], None]:
    return killed(lambda scene: scene.swarm.coordinator(), moment)


def part_killed(part: str) -> Callable[[Scene], None]:
    """Only one process of a peer is killed: the peer must notice, and its supervisor start it again."""

    def act(scene: Scene) -> None:
        found: dict[str, int] = {}

        def choose() -> Peer:
            victim = a_member(scene)
            assert victim.main is not None
            found.update(parts(victim.main))  # before the moment: it takes a while to look
            return victim

        victim = scene.strike(choose, moments.REDUCE, lambda peer: os.kill(found[part], signal.SIGKILL))
        scene.measure([peer for peer in scene.swarm.running() if peer is not victim])
        scene.figures["attempts_lost"] = scene.attempts_lost(scene.swarm.running())
        scene.note_return(victim, scene.struck_at)
        scene.all_together()

    return act
