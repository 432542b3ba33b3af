"""Faults: many die at once, all die at once, or those who know the way in are gone."""

from __future__ import annotations

import time
from collections.abc import Callable

from paceline.core.events import PeerStarted, StepDone
from tests.nemesis import measures, moments
from tests.nemesis.deaths import a_member
from tests.nemesis.moments import Moment
from tests.nemesis.peers import Peer
from tests.nemesis.scene import RETURN_S, Scene

_NOTHING_HAPPENS_S = 30.0
"""How long a minority is watched: lease and retries are over by then."""


def _crowd(scene: Scene, size: int) -> list[Peer]:
    # The coordinator is always among them: that is the worst choice.
    front = scene.swarm.coordinator()
    others = sorted((peer for peer in scene.swarm.running() if peer is not front), key=lambda p: p.name)
    return [front, *others[: size - 1]]


def less_than_half_killed(scene: Scene) -> None:
    """As many die as may: the rest is a quorum, and goes on."""
    size = (len(scene.swarm.peers) - 1) // 2
    victims: list[Peer] = []

    def choose() -> Peer:
        victims[:] = _crowd(scene, size)
        return victims[0]

    def blow(peer: Peer) -> None:
        for victim in victims:
            victim.kill()

    scene.strike(choose, moments.REDUCE, blow)
    scene.notes.append(f"{size} of {len(scene.swarm.peers)} were killed, the coordinator among them")
    scene.measure([peer for peer in scene.swarm.running() if peer not in victims])
    scene.figures["attempts_lost"] = scene.attempts_lost(scene.swarm.running())
    scene.mend()


def more_than_half_killed(scene: Scene) -> None:
    """One more dies than may: nothing commits until one is back, and then the same round does."""
    size = (len(scene.swarm.peers) - 1) // 2 + 1
    victims: list[Peer] = []

    def choose() -> Peer:
        victims[:] = _crowd(scene, size)
        return victims[0]

    def blow(peer: Peer) -> None:
        for victim in victims:
            victim.kill()

    scene.strike(choose, moments.TRAIN, blow)
    survivors = [peer for peer in scene.swarm.running() if peer not in victims]
    scene.say(f"nothing may commit for {_NOTHING_HAPPENS_S:.0f} s: {len(survivors)} are no quorum")
    time.sleep(_NOTHING_HAPPENS_S)
    committed = measures.last_commit(scene.tales(survivors))
    scene.expect(committed < scene.round_id, f"a minority has committed round {committed}")
    back = victims[-1]
    scene.say(f"{back.name} is started again")
    back.start()
    scene.swarm.until(lambda: back.events(PeerStarted, scene.struck_at), RETURN_S, f"{back.name} is up again")
    up_at = back.when(PeerStarted, scene.struck_at)[0]
    scene.measure(survivors)
    scene.closed_s = measures.closed_s(scene.tales(survivors), scene.round_id, up_at)
    scene.notes.append(
        f"{size} of {len(scene.swarm.peers)} were killed; nothing was committed for "
        f"{_NOTHING_HAPPENS_S:.0f} s; the time is from when the first of them was back"
    )
    scene.mend()


def power_cut(moment: Moment) -> Callable[[Scene], None]:
    """Everybody dies at once, the seed too, and is started again."""

    def act(scene: Scene) -> None:
        swarm = scene.swarm

        def blow(peer: Peer) -> None:
            for each in swarm.peers.values():
                each.kill()
            swarm.kill_seed()

        scene.strike(swarm.coordinator, moment, blow)
        peers = list(swarm.peers.values())
        swarm.until(lambda: not swarm.running(), 10.0, "all processes are gone")
        before = {peer.name: swarm.chain(peer) for peer in peers}
        scene.say("power is back: the seed and all peers are started again")
        started_at = time.time()
        swarm.start_seed()
        for peer in peers:
            peer.start()
        scene.measure(peers, RETURN_S)
        up = {peer.name: peer.when(PeerStarted, started_at)[0] for peer in peers}
        scene.closed_s = measures.closed_s(scene.tales(peers), scene.round_id, max(up.values()))
        scene.notes.append("the time is from when the last peer was up again")
        scene.figures["all_up_s"] = max(up.values()) - started_at
        for peer in peers:
            _expect_same_history(scene, peer, {r: s.digest() for r, s in before[peer.name].items()})
        scene.figures["rounds_repeated"] = max(len(_repeated(peer, started_at)) for peer in peers)
        scene.expect(scene.figures["rounds_repeated"] <= 1, "more than the uncommitted round was repeated")
        scene.all_together()

    return act


def _expect_same_history(scene: Scene, peer: Peer, before: dict[int, str]) -> None:
    after = {r: state.digest() for r, state in scene.swarm.chain(peer).items()}
    same = {r: after.get(r) for r in before} == before
    scene.expect(same, f"{peer.name} does not stand on the history that was on its disk")


def _repeated(peer: Peer, since: float) -> set[int]:
    # Rounds in which a peer trained both before and after its restart.
    peer.listen()
    steps = [(t.time >= since, t.event.round_id) for t in peer.told if isinstance(t.event, StepDone)]
    return {r for again, r in steps if again} & {r for again, r in steps if not again}


def seed_gone(scene: Scene) -> None:
    """The only seed dies: the peers go on; one that is started meanwhile finds them without it."""
    swarm = scene.swarm
    scene.struck()
    swarm.kill_seed()
    scene.say(f"the seed is killed, in round {scene.round_id}")
    scene.measure(swarm.running())
    victim = a_member(scene)
    scene.say(f"{victim.name} is killed and started again, while there is no seed")
    victim.end()
    started_at = time.time()
    victim.start()
    scene.note_return(victim, started_at)
    scene.all_together()
    scene.say("the seed is started again")
    swarm.start_seed()
    scene.all_together()
    scene.compare(swarm.running())
