"""What an observer asks of its DHT node besides records: history, and who is connected from where.

Its node is a client: it calls others, and nobody calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from hivemind.dht import DHT, DHTNode
from hivemind.p2p import PeerID

from paceline.network.dht import PeerDht
from paceline.network.transfer import FetchedHistory, HistoryWant, TransferLimits, fetch_history

_LIMITS = TransferLimits(stall_s=10.0, total_s=30.0)
_GREETING_S = 5.0


class Lookout:
    """One observer's view of the network.

    Attributes:
        dht: Its node.
    """

    def __init__(self, dht: PeerDht) -> None:
        self.dht = dht

    def hosts(self) -> dict[str, set[str]]:
        """Tell under which hosts others are connected with this node at the level of libp2p.

        Returns:
            IP addresses by peer id; whoever is only reached through others is missing.
        """
        found: dict[str, set[str]] = {}
        for address in self.dht.neighbours():
            parts = address.split("/")
            if len(parts) > 4 and parts[1] in ("ip4", "ip6"):
                found.setdefault(parts[-1], set()).add(parts[2])
        return found

    def greet(self, peer_ids: Collection[str]) -> None:
        """Call some peers, so that they are connected; does not wait.

        Args:
            peer_ids: Whom.
        """
        self.dht.run_coroutine(partial(_greet, tuple(peer_ids)), return_future=True)

    def ask_history(
        self, run_id: str, donors: Sequence[str], after_round: int, max_links: int
    ) -> Future[FetchedHistory]:
        """Ask for a stretch of history; does not wait.

        Args:
            run_id: The run.
            donors: Peer ids, in the order in which to ask them.
            after_round: The last round that is already known.
            max_links: How many rounds at most.

        Returns:
            Links that nobody has verified yet. It fails with `TransferFailed` when no donor answers.
        """
        want = HistoryWant(after_round=after_round, max_links=max_links)
        question = partial(_history, tuple(donors), run_id, want)
        future: Future[FetchedHistory] = self.dht.run_coroutine(question, return_future=True)
        return future


async def _history(
    donors: tuple[str, ...], run_id: str, want: HistoryWant, _dht: DHT, node: DHTNode
) -> FetchedHistory:
    return await fetch_history(node.p2p, donors, run_id, want, _LIMITS)


async def _greet(peer_ids: tuple[str, ...], _dht: DHT, node: DHTNode) -> None:
    async def call(peer_id: str) -> Any:
        with suppress(Exception):  # whoever can't be called is simply not connected
            async with asyncio.timeout(_GREETING_S):
                await node.protocol.call_ping(PeerID.from_base58(peer_id), validate=False)

    await asyncio.gather(*map(call, peer_ids))
