"""How the protocol grows: a large swarm on a good day, measured in virtual seconds and messages per round."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core.records import MAX_MEMBERS
from paceline.simulate.swarm import VirtualSwarm, peer_name, virtual_run

_LIMIT_S = 600.0


@dataclass(frozen=True)
class Growth:
    """What rounds cost a swarm of one size.

    Attributes:
        peers: How many.
        rounds: Rounds measured.
        round_s: Virtual seconds per round.
        messages: Records read per peer and round.
        members: Median size of the rosters.
        rosters: How many peers were in a roster at all.
    """

    peers: int
    rounds: int
    round_s: float
    messages: float
    members: int
    rosters: int


def measure(num_peers: int, rounds: int = 3, seed: int = 0) -> Growth:
    """Let a swarm commit some rounds undisturbed.

    Args:
        num_peers: Its size; rosters are limited to `paceline.core.records.MAX_MEMBERS`.
        rounds: Rounds to measure, after a first one that is not counted.
        seed: Decides delays.

    Returns:
        What they cost.
    """
    swarm = VirtualSwarm(seed, virtual_run(min(num_peers, MAX_MEMBERS)))
    for number in range(num_peers):
        swarm.start(peer_name(number))
    swarm.run(lambda: swarm.witness.height >= 1, _LIMIT_S)
    began, before = swarm.now, swarm.board.num_messages
    swarm.run(lambda: swarm.witness.height >= 1 + rounds, _LIMIT_S)
    done = max(1, swarm.witness.height - 1)
    committed = max((peer.disk.states for peer in swarm.peers.values()), key=len)[1:]
    sizes = sorted(len(state.participating_nodes) for state in committed)
    return Growth(
        peers=num_peers,
        rounds=done,
        round_s=(swarm.now - began) / done,
        messages=(swarm.board.num_messages - before) / done / num_peers,
        members=sizes[len(sizes) // 2] if sizes else 0,
        rosters=len({who for state in committed for who in state.participating_nodes}),
    )
