"""More faults of the network: cut for longer than connections live, and cut into pieces without a quorum.

Each takes a `Scene` on the stage `NETWORK`, like the ones in `networks.py`, and puts things right at its end.
"""

from __future__ import annotations

import time

from paceline.core.events import QuorumMissing
from tests.nemesis import measures
from tests.nemesis.lab import Lab
from tests.nemesis.networks import LabPlace
from tests.nemesis.peers import Peer
from tests.nemesis.scene import Scene

LONG_S = 90.0
"""So long a cut outlives every connection across it: both sides have to look for each other again."""
PIECES_S = 60.0
MOST_ROUNDS = 2
"""Rounds within which the smaller side must have repaired itself."""
BACK_S = 30.0
"""Within so many seconds after the cut is healed, everybody must have heard of everybody."""
_PATIENCE_S = 300.0


def long_partition(scene: Scene) -> None:
    """A cut that lasts: the coordinator and a majority on one side, the others and the seed on the other."""
    swarm = scene.swarm
    front = swarm.coordinator()
    others = [peer for peer in swarm.running() if peer is not front]
    size = (len(others) + 1) // 2  # of the majority, but for the coordinator
    major, minor = [front, *others[:size]], others[size:]
    lab, seed = _lab(scene), _place(scene).host("seed")
    try:
        scene.struck()
        lab.partition(_hosts(scene, major), [*_hosts(scene, minor), seed])
        scene.say(f"{len(major)} | {len(minor)} and the seed, for {LONG_S:.0f} s")
        scene.measure(major)
        _pass_time(scene, LONG_S)
    finally:
        lab.heal()
    healed_at = time.time()
    scene.say("the network is whole again")
    alone = measures.last_commit(scene.tales(minor))
    scene.expect(alone <= scene.round_id, f"the smaller side has committed round {alone}")
    _expect_complaints(scene, minor, healed_at)
    ahead = measures.last_commit(scene.tales(major))
    scene.swarm.until(
        lambda: all(peer.height >= ahead for peer in minor), _PATIENCE_S, "the smaller side catches up"
    )
    back_at = max(measures.stood_on(tale, ahead) or 0.0 for tale in scene.tales(minor).values())
    rounds = measures.last_commit(scene.tales(major), back_at) - ahead
    scene.figures["caught_up_s"] = max(0.0, back_at - healed_at)
    scene.figures["caught_up_after_rounds"] = rounds
    scene.reach(back_at - healed_at, BACK_S, "seconds until the smaller side had caught up")
    # Rounds only count from when both sides can have heard of each other.
    slow = rounds > MOST_ROUNDS and back_at - healed_at > BACK_S
    scene.expect(not slow, f"the smaller side needed {rounds} rounds to repair itself")
    scene.all_together()
    scene.compare(swarm.running())


def partition_in_pieces(scene: Scene) -> None:
    """Three pieces, none of them a quorum; the coordinator is alone. Nobody may commit until they are one."""
    swarm = scene.swarm
    front = swarm.coordinator()
    others = [peer for peer in swarm.running() if peer is not front]
    half = len(others) // 2
    lab, seed = _lab(scene), _place(scene).host("seed")
    try:
        scene.struck()
        pieces = [[*_hosts(scene, others[:half]), seed], _hosts(scene, others[half:]), _hosts(scene, [front])]
        lab.partition(*pieces)
        scene.say(f"{half} and the seed | {len(others) - half} | the coordinator, for {PIECES_S:.0f} s")
        _pass_time(scene, PIECES_S)
        # A commit that was already out when the cut fell may still be applied.
        committed = measures.last_commit(scene.tales())
        scene.expect(
            committed <= scene.round_id, f"a piece that is no quorum has committed round {committed}"
        )
    finally:
        lab.heal()
    healed_at = time.time()
    scene.say("the network is whole again")
    _expect_complaints(scene, swarm.running(), healed_at)
    stalled = committed + 1
    scene.swarm.until(
        lambda: all(peer.height >= stalled for peer in swarm.running()),
        _PATIENCE_S,
        f"all commit round {stalled}",
    )
    scene.closed_s = measures.closed_s(scene.tales(), stalled, healed_at)
    scene.notes.append("the time is from the healing")
    scene.all_together()
    scene.compare(swarm.running())


def _place(scene: Scene) -> LabPlace:
    assert isinstance(scene.swarm.place, LabPlace)
    return scene.swarm.place


def _lab(scene: Scene) -> Lab:
    return _place(scene).lab


def _hosts(scene: Scene, peers: list[Peer]) -> list[int]:
    return [_place(scene).host(peer.name) for peer in peers]


def _pass_time(scene: Scene, seconds: float) -> None:
    time.sleep(max(0.0, scene.struck_at + seconds - time.time()))


def _expect_complaints(scene: Scene, peers: list[Peer], until: float) -> None:
    # Whoever waits without a quorum must say so: silence would look like a hang.
    for peer in peers:
        told = [at for at in peer.when(QuorumMissing, scene.struck_at) if at < until]
        scene.expect(told, f"{peer.name} did not say that it misses a quorum")
