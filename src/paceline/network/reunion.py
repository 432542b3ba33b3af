"""Meeting again: a DHT node looks for those whom it has lost, for as long as it runs.

Hivemind drops a neighbour that once did not answer, and calls its seeds only when it starts. After a
partition of the network each half would have forgotten the other, nobody would call across, and the swarm
would stay split for ever. So it would for a machine that slept, or whose neighbours were all gone at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from functools import partial

from hivemind.dht import DHT, DHTNode
from hivemind.p2p import PeerID
from hivemind.utils.multiaddr import Multiaddr

EVERY_S = 3.0
"""How often those who are missing are called."""
AT_ONCE = 8
"""So many of them are called each time, by lot."""
REMEMBERED = 256
"""Nobody can fill the memory: of all others that a node has met, it remembers those that it has met last."""
FORGET_S = 6 * 3600.0
"""Who was missing for so long is not looked for any more, unless it is a seed."""

_searches: set[asyncio.Task[None]] = set()


class Acquaintances:
    """Whom a node has met, and when.

    Guarantees:
        Whoever was met is missing once it is not a neighbour any more.
        A seed is never forgotten.
        A crowd of strangers is not remembered.
    """

    def __init__(self, seeds: Collection[PeerID]) -> None:
        """Begin with the seeds.

        Args:
            seeds: Whom to look for whether it was ever met or not.
        """
        self._seeds = frozenset(seeds)
        self._met_at: dict[PeerID, float] = {}

    def missing(self, neighbours: Collection[PeerID], now: float) -> list[PeerID]:
        """Note who is there, and tell who should be.

        Args:
            neighbours: Who is in the routing table.
            now: Monotonic seconds.

        Returns:
            All others that the node remembers, seeds first.
        """
        here = set(neighbours)
        for peer in here:
            self._met_at.pop(peer, None)
            self._met_at[peer] = now  # the latest come last
        old = [peer for peer, met_at in self._met_at.items() if now - met_at > FORGET_S]
        for peer in {*old, *list(self._met_at)[:-REMEMBERED]}:
            del self._met_at[peer]
        return [*(self._seeds - here), *(peer for peer in self._met_at if peer not in here | self._seeds)]


async def look_for_the_lost(seeds: Sequence[str], _dht: DHT, node: DHTNode) -> None:
    """Begin to look for whoever goes missing; runs in the DHT's process, to which `run_coroutine` sends it.

    Args:
        seeds: Multiaddrs with peer ids.
        node: The node.
    """
    ids = {PeerID.from_base58(Multiaddr(seed)["p2p"]) for seed in seeds}
    search = asyncio.create_task(_search(node, Acquaintances(ids - {node.peer_id})))
    _searches.add(search)  # the event loop alone would not keep it


async def _search(node: DHTNode, acquaintances: Acquaintances) -> None:
    protocol = node.protocol
    while node.is_alive:
        # Not in step with the others: two that call each other at the same moment are no better than one.
        await asyncio.sleep(EVERY_S * random.uniform(0.7, 1.3))
        missing = acquaintances.missing(list(protocol.routing_table.peer_id_to_uid), time.monotonic())
        called = missing if len(missing) <= AT_ONCE else random.sample(missing, AT_ONCE)
        # Whoever answers is a neighbour again, on both sides. A failed call raises nothing.
        await asyncio.gather(*map(partial(protocol.call_ping, validate=False), called))
