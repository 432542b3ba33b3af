"""How the protocol grows: a large swarm on a good day, measured in virtual seconds and messages per round.

Beyond the longest roster the members take turns. Whoever is not in it trains, waits for the commit, and then
fetches the new state from those who have it.
"""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core.records import MAX_MEMBERS
from paceline.simulate.calm import CalmBoard
from paceline.simulate.swarm import VirtualSwarm, peer_name, virtual_run

_LIMIT_S = 600.0


@dataclass(frozen=True)
class Growth:
    """What a round costs a swarm of one size. All but the first three are per round.

    Attributes:
        peers: How many.
        members: Median size of the rosters.
        turns: How many peers were in a roster at all.
        round_s: Virtual seconds.
        posts: Records that a peer posts.
        reads: How often a peer looks at the board.
        news: Records that a peer reads for the first time.
        read_kb: kB that its looks at the real board would fetch, which returns old and new.
        fetches: States that had to be fetched, in the whole swarm.
    """

    peers: int
    members: int
    turns: int
    round_s: float
    posts: float
    reads: float
    news: float
    read_kb: float
    fetches: float


def measure(num_peers: int, rounds: int = 3, seed: int = 0) -> Growth:
    """Let a swarm commit some rounds undisturbed.

    Args:
        num_peers: Its size; rosters are limited to `paceline.core.records.MAX_MEMBERS`.
        rounds: Rounds to measure, after two that are not counted.
        seed: Decides how fast peers train, and when they look at the board.

    Returns:
        What they cost.
    """
    swarm = VirtualSwarm(seed, virtual_run(min(num_peers, MAX_MEMBERS)))
    swarm.board = board = CalmBoard(swarm.rng)
    for number in range(num_peers):
        swarm.start(peer_name(number))
    swarm.run(lambda: swarm.witness.height >= 2, _LIMIT_S)
    began = swarm.now
    before = (board.num_posts, board.num_reads, board.num_messages, board.num_bytes, swarm.num_fetches)
    swarm.run(lambda: swarm.witness.height >= 2 + rounds, _LIMIT_S)
    after = (board.num_posts, board.num_reads, board.num_messages, board.num_bytes, swarm.num_fetches)
    done = max(1, swarm.witness.height - 2)
    posts, reads, news, num_bytes, fetches = (
        (last - first) / done for first, last in zip(before, after, strict=True)
    )
    committed = max((peer.disk.states for peer in swarm.peers.values()), key=len)[1:]
    sizes = sorted(len(state.participating_nodes) for state in committed)
    return Growth(
        peers=num_peers,
        members=sizes[len(sizes) // 2] if sizes else 0,
        turns=len({who for state in committed for who in state.participating_nodes}),
        round_s=(swarm.now - began) / done,
        posts=posts / num_peers,
        reads=reads / num_peers,
        news=news / num_peers,
        read_kb=num_bytes / num_peers / 1000,
        fetches=fetches,
    )
