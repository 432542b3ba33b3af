"""Not faults but burdens: a peer that joins, and one that is slow. The others must hardly notice.

Every peer gets a fixed share of the processor, so that one more or a slower one takes nothing from the others
but what the protocol takes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from paceline.core.events import PeerStarted, StateFetched
from tests.nemesis import measures
from tests.nemesis.lab import CpuShare
from tests.nemesis.peers import Peer
from tests.nemesis.scene import RETURN_S, Scene
from tests.nemesis.swarm import Loopback

SHARE = 0.25
"""Processors' worth of one peer: five and a joiner leave a quarter of two cores to everything else."""
START_SHARE = 2.0
_FIRST = {"cpu.shares": "65536", "cpu.weight": "10000"}
"""So that a peer gets its share when it wants it, whatever else runs on this machine."""
SLOW_SHARE = 0.085
"""With it a peer trains four times slower: a third of it goes into what does not shrink, the network."""
ROUNDS = 6
"""Medians are taken over so many rounds."""
MOST_GROWTH_BY_JOINER, MOST_GROWTH_BY_SLOW = 10.0, 30.0
WITHIN_ROUNDS = 2
LEAST_CREDIT = 90.0
"""Percent of what a slow peer trained that it gets credit for: a last step may end as the roster is named."""

LEAST_STEPS = 95.0
"""Percent of their steps that the others still do beside a slow peer: nobody is cut short for it."""


class SharedPlace(Loopback):
    """Loopback, and a share of the processor for every peer."""

    def __init__(self, stack: ExitStack) -> None:
        self.shares: dict[str, CpuShare] = {}
        self._stack = stack

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        if name not in self.shares:
            share = self.shares[name] = self._stack.enter_context(CpuShare(START_SHARE, name))
            for file, weight in _FIRST.items():
                if (share.path / file).exists():
                    (share.path / file).write_text(weight)
        return self.shares[name].command(argv)

    def limit(self) -> None:
        """Take away the freedom that everybody has while starting."""
        for name, share in self.shares.items():
            share.set(START_SHARE if name == "seed" else SHARE)


def _place(scene: Scene) -> SharedPlace:
    assert isinstance(scene.swarm.place, SharedPlace)
    return scene.swarm.place


def _baseline(scene: Scene, peers: list[Peer]) -> float:
    scene.say(f"{ROUNDS} rounds without it are timed")
    scene.rounds_pass(peers, 1)
    since = time.time()
    scene.rounds_pass(peers, ROUNDS + 1)
    return measures.median_round_s(scene.tales(peers), since)


def _report_growth(scene: Scene, peers: list[Peer], before_s: float, since: float, most: float) -> None:
    tales = scene.tales(peers)
    during_s = measures.median_round_s(tales, since)
    growth = 100.0 * (during_s / before_s - 1.0)
    times = [s for tale in tales.values() for s in measures.round_times(tale, since)]
    scene.figures |= {
        "median_round_before_s": before_s,
        "median_round_s": during_s,
        "longest_round_s": max(times, default=0.0),
        "growth_percent": growth,
    }
    scene.reach(growth, most, "percent that rounds grew")


def joiner(scene: Scene) -> None:
    """A sixth peer joins, with a share of its own."""
    swarm, peers = scene.swarm, scene.swarm.running()
    place = _place(scene)
    before_s = _baseline(scene, peers)
    scene.struck()
    late = swarm.add(f"peer-{len(swarm.peers) + 1}")
    place.shares[late.name].set(SHARE)
    scene.say(f"{late.name} joins, in round {scene.round_id}")
    late.start()
    try:
        swarm.until(lambda: late.events(PeerStarted), RETURN_S, f"{late.name} is up")
        up_at = late.when(PeerStarted)[0]
        in_roster = f"{late.name} is in a roster"
        swarm.until(lambda: _first_roster(scene, late), RETURN_S, in_roster, poll_s=1.0)
        entered = _first_roster(scene, late)
        at_start = measures.last_commit(scene.tales(peers), up_at)
        scene.figures["rounds_until_in_roster"] = entered - at_start
        fetched = late.events(StateFetched)
        scene.figures["rounds_after_state"] = entered - fetched[0].round_id if fetched else 0
        scene.expect(
            entered - at_start <= WITHIN_ROUNDS, f"it took {entered - at_start} rounds to be in a roster"
        )
        scene.rounds_pass(peers, ROUNDS)
        _report_growth(scene, peers, before_s, scene.struck_at, MOST_GROWTH_BY_JOINER)
        scene.compare(swarm.running())
    finally:
        late.end()
        del swarm.peers[late.name]
    scene.all_together()


def _first_roster(scene: Scene, peer: Peer) -> int:
    survivor = next(iter(scene.swarm.peers.values()))
    rounds = [
        r for r, state in scene.swarm.chain(survivor).items() if peer.peer_id in state.participating_nodes
    ]
    return min(rounds, default=0)


def slow_peer(scene: Scene) -> None:
    """One peer trains four times slower than the others."""
    swarm, peers = scene.swarm, scene.swarm.running()
    share = _place(scene).shares
    victim, *others = peers
    before_s = _baseline(scene, others)
    speed_before = _steps_per_s(victim, scene.began_at)
    try:
        share[victim.name].set(SLOW_SHARE)
        scene.struck()
        scene.say(f"{victim.name} is slow from now on, in round {scene.round_id}")
        scene.rounds_pass(others, 2)  # the round in progress, and one to get used to it
        since = time.time()
        first = measures.last_commit(scene.tales(others)) + 1
        scene.rounds_pass(others, ROUNDS + 1)
        _report_growth(scene, others, before_s, since, MOST_GROWTH_BY_SLOW)
        scene.figures["slower_by"] = speed_before / max(_steps_per_s(victim, since), 1e-9)
        _judge_credit(scene, victim, others[0], first)
        _judge_steps(scene, others, first)
    finally:
        share[victim.name].set(SHARE)
    scene.all_together()
    scene.compare(swarm.running())


def _steps_per_s(peer: Peer, since: float) -> float:
    from paceline.core.events import StepDone

    seconds = [event.seconds for event in peer.events(StepDone, since)]
    return len(seconds) / sum(seconds) if seconds else 0.0


def _judge_credit(scene: Scene, victim: Peer, witness: Peer, first: int) -> None:
    victim.listen()
    done = measures.trained(victim.told, scene.swarm.node.batch_size)
    parts = {
        round_id: dict(zip(state.participating_nodes, state.samples, strict=True)).get(victim.peer_id, 0)
        for round_id, state in scene.swarm.chain(witness).items()
        if round_id >= first
    }
    taken = {round_id: samples for round_id, samples in parts.items() if samples}
    scene.figures["rounds_with_it"] = len(taken)
    scene.figures["rounds_in_all"] = len(parts)
    scene.figures["samples_credited"] = sum(taken.values())
    trained = scene.figures["samples_trained_in_these"] = sum(done.get(r, 0) for r in taken)
    share = 100.0 * sum(taken.values()) / max(trained, 1)
    scene.reach(
        100.0 - share, 100.0 - LEAST_CREDIT, f"percent of its training that {victim.name} got no credit for"
    )
    scene.expect(taken, f"{victim.name} was in no roster")
    scene.expect(not measures.unearned(parts, done), f"{victim.name} got credit for what it did not train")


def _judge_steps(scene: Scene, others: list[Peer], first: int) -> None:
    swarm = scene.swarm
    states = [state for round_id, state in swarm.chain(others[0]).items() if round_id >= first]
    asked = len(states) * len(others) * swarm.run.inner_steps * swarm.node.batch_size
    ids = {peer.peer_id for peer in others}
    done = sum(
        samples
        for state in states
        for peer_id, samples in zip(state.participating_nodes, state.samples, strict=True)
        if peer_id in ids
    )
    share = scene.figures["percent_of_their_steps_by_others"] = 100.0 * done / max(asked, 1)
    scene.reach(100.0 - share, 100.0 - LEAST_STEPS, "percent of their steps that the others did not do")
