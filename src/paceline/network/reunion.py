"""Meeting again: a DHT node looks for those whom it has lost, for as long as it runs.

Hivemind drops a neighbour that once did not answer, and calls its seeds only when it starts. After a
partition of the network each half would have forgotten the other, nobody would call across, and the swarm
would stay split for ever. So it would for a machine that slept, or whose neighbours were all gone at once.

A cut that is shorter leaves connections behind that look alive and are not: TCP repeats what was lost ever
more seldom, at worst as late after the healing as the cut was long. So who stays silent is dialled anew.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from hivemind.dht import DHT, DHTNode
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.multiaddr import Multiaddr

EVERY_S = 3.0
"""How often those who are missing are called."""
AT_ONCE = 8
"""So many of them are called each time, by lot."""
REMEMBERED = 256
"""Nobody can fill the memory: of all others that a node has met, it remembers those that it has met last."""
HANG_UP_S = 15.0
"""Who has not answered for so long is dialled anew: a full line delays less, so the connection is dead."""
_DIALLING_S = 20.0  # over a slow network a new connection takes seconds; more is given before it is dead, too
FORGET_S = 6 * 3600.0
"""Who was missing for so long is not looked for any more, unless it is a seed."""

_searches: set[asyncio.Task[None]] = set()


class Acquaintances:
    """Whom a node has met, and when.

    Guarantees:
        Whoever was met is missing once it is not a neighbour any more.
        A seed is never forgotten.
        A crowd of strangers is not remembered.
        Who stays silent is dialled anew, and then given time.
    """

    def __init__(self, seeds: Collection[PeerID]) -> None:
        """Begin with the seeds.

        Args:
            seeds: Whom to look for whether it was ever met or not.
        """
        self._seeds = frozenset(seeds)
        self._met_at: dict[PeerID, float] = {}
        self._patient_until: dict[PeerID, float] = {}

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
        missing = [*(self._seeds - here), *(peer for peer in self._met_at if peer not in here | self._seeds)]
        self._patient_until = {peer: self._patient_until.get(peer, now + HANG_UP_S) for peer in missing}
        return missing

    def draw(self, missing: Sequence[PeerID], most: int) -> list[PeerID]:
        """Choose whom to call now: by lot, but seeds always, be the crowd of others ever so large.

        Args:
            missing: What `missing` returned.
            most: How many, seeds aside.

        Returns:
            Some of them.
        """
        seeds = [peer for peer in missing if peer in self._seeds]
        others = [peer for peer in missing if peer not in self._seeds]
        return [*seeds, *random.sample(others, min(most, len(others)))]

    def should_hang_up(self, peer: PeerID, now: float) -> bool:
        """Decide what to do about somebody missing that has not answered once more.

        Args:
            peer: Who; named by the last call of `missing`.
            now: Monotonic seconds.

        Returns:
            Whether any connection to it must be dead. After a yes it gets time to be dialled anew.
        """
        if now < self._patient_until[peer]:
            return False
        self._patient_until[peer] = now + _DIALLING_S
        return True


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
    table = node.protocol.routing_table
    while node.is_alive:
        # Not in step with the others: two that call each other at the same moment are no better than one.
        await asyncio.sleep(EVERY_S * random.uniform(0.7, 1.3))
        missing = acquaintances.missing(list(table.peer_id_to_uid), time.monotonic())
        called = acquaintances.draw(missing, AT_ONCE)
        await asyncio.gather(*(_call(node, acquaintances, peer) for peer in called))


async def _call(node: DHTNode, acquaintances: Acquaintances, peer: PeerID) -> None:
    # Whoever answers is a neighbour again, on both sides.
    try:
        answer = await node.protocol.call_ping(peer, validate=False)
    except Exception:
        answer = None  # hivemind raises whatever a malformed answer leads to; the search must outlive it
    if answer is None and acquaintances.should_hang_up(peer, time.monotonic()):
        with suppress(OSError, EOFError, P2PDaemonError):
            await node.p2p._client.disconnect(peer)
