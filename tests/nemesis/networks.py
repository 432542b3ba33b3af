"""Faults of the network, in namespaces of this machine: slow, lossy and narrow; cut in two."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from tests.nemesis import measures
from tests.nemesis.lab import Lab
from tests.nemesis.peers import Peer
from tests.nemesis.scene import Scene

DELAY_S, LOSS, RATE_MBIT = 0.1, 0.01, 10.0
_PATIENCE_S = 300.0
_ROUNDS = 3
PARTED_S = 90.0
"""Longer than libp2p keeps a dead connection: whoever meets again then has looked for the others."""


class LabPlace:
    """Every peer on a virtual host of its own; the seed on the last one."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def host(self, name: str) -> int:
        return self.lab.num_hosts - 1 if name == "seed" else int(name.rpartition("-")[2]) - 1

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        program, *arguments = self.lab.command(self.host(name), argv)
        return [shutil.which(program) or program, *arguments]

    def address(self, name: str) -> str:
        return self.lab.address(self.host(name))


def _place(scene: Scene) -> LabPlace:
    assert isinstance(scene.swarm.place, LabPlace)
    return scene.swarm.place


def bad_network(scene: Scene) -> None:
    """Every packet takes its time, one in a hundred is lost, and uplinks are narrow."""
    lab, peers = _place(scene).lab, scene.swarm.running()
    scene.rounds_pass(peers, _ROUNDS)
    before_s = measures.median_round_s(scene.tales(peers), scene.began_at)
    try:
        scene.struck()
        lab.delay_s, lab.loss, lab.rate_mbit = DELAY_S, LOSS, RATE_MBIT
        scene.say(f"the network turns bad in round {scene.round_id}")
        scene.measure(peers, _PATIENCE_S)
        scene.rounds_pass(peers, _ROUNDS - 1)
        scene.figures["median_round_before_s"] = before_s
        scene.figures["median_round_s"] = measures.median_round_s(scene.tales(peers), scene.struck_at)
        scene.figures["attempts_lost"] = scene.attempts_lost(peers)
    finally:
        lab.calm()
    scene.all_together()
    scene.compare(peers)


def partition(scene: Scene) -> None:
    """The network is cut: most of the peers on one side, the coordinator and the rest on the other."""
    place, swarm = _place(scene), scene.swarm
    front = swarm.coordinator()
    others = [peer for peer in swarm.running() if peer is not front]
    size = (len(others) + 1) // 2 + 1  # of the majority
    major, minor = others[:size], [front, *others[size:]]

    def hosts(peers: list[Peer]) -> list[int]:
        return [place.host(peer.name) for peer in peers]

    try:
        scene.struck()
        place.lab.partition([*hosts(major), place.host("seed")], hosts(minor))
        scene.say(
            f"{len(major)} and {len(minor)} are apart from round {scene.round_id}; "
            "the coordinator is with the fewer"
        )
        scene.measure(major)
        time.sleep(max(0.0, PARTED_S - (time.time() - scene.struck_at)))
        alone = measures.last_commit(scene.tales(minor))
        scene.expect(alone <= scene.round_id, f"the smaller side has committed round {alone}")
    finally:
        place.lab.heal()
    healed_at = time.time()
    scene.say("the network is whole again")
    ahead = measures.last_commit(scene.tales(major))
    scene.swarm.until(
        lambda: all(p.height >= ahead for p in minor), _PATIENCE_S, "the smaller side catches up"
    )
    times = [measures.stood_on(tale, ahead) or 0.0 for tale in scene.tales(minor).values()]
    scene.figures["caught_up_s"] = max(0.0, max(times) - healed_at)
    scene.all_together()
    scene.compare(swarm.running())
