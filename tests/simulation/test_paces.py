"""Claims about peers of very different speed, in the simulator, where orders wait for the end of a step."""

from __future__ import annotations

from paceline.core.actions import Tell
from paceline.core.config import PaceConfig
from paceline.core.events import AttemptVoided
from paceline.simulate.peer import VirtualPeer
from paceline.simulate.swarm import VirtualSwarm, peer_name, virtual_run


def test_a_peer_in_a_first_step_that_takes_long_voids_no_attempt() -> None:
    # Without a sample it would have no weight, and come to the all-reduce only when its step is over.
    pace = PaceConfig(gather_s=5)
    run = virtual_run(4).model_copy(update={"inner_steps": 20, "rounds": 100, "pace": pace})
    swarm = VirtualSwarm(1, run)
    *_, slow = [swarm.start(peer_name(place)) for place in range(4)]
    slow.slowness = 60.0  # half a minute per step: longer than the start of an all-reduce is waited for
    voided = []

    def note(peer: VirtualPeer, action: object) -> None:
        if isinstance(action, Tell) and isinstance(action.event, AttemptVoided):
            voided.append(action.event)

    swarm.before = note
    assert swarm.run(lambda: max(peer.disk.head.round_id for peer in swarm.peers.values()) >= 10, 600)
    assert not [event for event in voided if event.round_id > 1]
