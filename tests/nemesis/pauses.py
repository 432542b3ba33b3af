"""Faults: a peer stands still for a while, and wakes up in a swarm that has gone on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from tests.nemesis import measures
from tests.nemesis.deaths import a_member
from tests.nemesis.moments import Moment
from tests.nemesis.peers import Peer
from tests.nemesis.scene import ROUND_S, Scene

PAUSE_S = 20.0
MOST_ATTEMPTS = 1
MOST_ROUNDS = 2


def _send(pids: Iterable[int], sent: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)


def stopped(moment: Moment) -> Callable[[Scene], None]:
    """All processes of a member stop for a while, and go on as if nothing had been."""

    def act(scene: Scene) -> None:
        family: set[int] = set()
        wakers: list[threading.Timer] = []

        def choose() -> Peer:
            victim = a_member(scene)
            family.clear()
            family.update(victim.family())  # before the moment: it takes a while to look
            return victim

        def blow(peer: Peer) -> None:
            _send(family, signal.SIGSTOP)
            waker = threading.Timer(PAUSE_S, _send, (set(family), signal.SIGCONT))
            waker.start()
            wakers.append(waker)

        try:
            victim = scene.strike(choose, moment, blow)
            others = [peer for peer in scene.swarm.running() if peer is not victim]
            scene.measure(others)
            attempts = scene.attempts_lost(others)
            scene.figures["attempts_lost"] = attempts
            scene.expect(attempts <= MOST_ATTEMPTS, f"the others lost {attempts} attempts")
            wakers[-1].join()
            _watch_waking(scene, victim, others)
        finally:
            for waker in wakers:
                waker.cancel()
            _send(family, signal.SIGCONT)

    return act


def _watch_waking(scene: Scene, victim: Peer, others: list[Peer]) -> None:
    woke_at = scene.struck_at + PAUSE_S
    ahead = measures.last_commit(scene.tales(others), woke_at)
    scene.say(f"{victim.name} woke up; the others were in round {ahead + 1}")
    scene.swarm.until(lambda: victim.height >= ahead, ROUND_S, f"{victim.name} repairs itself")
    victim.listen()
    repaired_at = measures.stood_on(victim.told, ahead) or time.time()
    by_then = measures.last_commit(scene.tales(others), repaired_at)
    scene.figures["repaired_s"] = max(0.0, repaired_at - woke_at)
    scene.figures["repaired_after_rounds"] = by_then - ahead
    scene.expect(
        by_then - ahead <= MOST_ROUNDS, f"{victim.name} needed {by_then - ahead} rounds to repair itself"
    )
    scene.all_together()
    scene.expect_earned(victim)
    scene.compare(scene.swarm.running())
