"""A node's replica of the board: others hand it what they post, and it looks for what it missed.

Hivemind's look-up asks all nodes near a key for the whole key, each time. Peers that polled like that made
each other send some 300 KB a second, five of them. So whoever posts hands the record to all neighbours, and
whoever reads looks into its own node. What was lost on the way a neighbour has, one of whom, by lot, is asked
every few seconds; and all are, more seldom, for each half of a swarm may have what the other lacks.

Runs in the DHT's process, to which `run_coroutine` sends `post` and `news`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import msgpack
from hivemind.dht import DHT, DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import PeerID

ASK_EVERY_S, SEARCH_EVERY_S, SEARCH_A_CROWD_EVERY_S = 3.0, 15.0, 1.0
"""How often a node asks one neighbour for what it missed, or all; where it can't know all, always all."""
_SEARCH_S = 4.0
TRIES = 3
"""How often a neighbour that does not answer is handed one record."""
_AGAIN_S = 0.5
_LOST_S = 30.0
"""Who has gone missing is handed records for so long: whoever answered late need not be dead."""
_MOST_AT_ONCE = 64

News = tuple[int, dict[str, list[bytes]]]
"""How far the answer goes, and what is new by key."""


class Replica:
    """One node's copy of the board.

    Guarantees:
        A record reaches every neighbour without a search.
        A neighbour that misses a record is handed it again.
        A record that any neighbour has is found without a search.
        A record that reached nobody here is found by a search.
    """

    def __init__(self, node: DHTNode) -> None:
        """Begin with what the node's storage keeps.

        Args:
            node: The node; it may be a client, whom nobody hands anything.
        """
        self._node, self._protocol = node, node.protocol
        self._last_met: dict[PeerID, float] = {}
        self._versions: dict[DHTID, dict[Any, tuple[float, int]]] = {}
        self._version = 0
        self._asked_at: dict[str, float] = {}
        self._searched_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def post(self, key: str, author: str, sealed: bytes, expires_at: float) -> None:
        """Keep a record and hand it to all neighbours; returns when each was tried once.

        Args:
            key: Its key.
            author: Its place below that key.
            sealed: The record.
            expires_at: When it may be forgotten; of two in one place the one that expires later stays.
        """
        key_id, value = DHTID.generate(source=key), self._protocol.serializer.dumps(sealed)
        self._keep(key_id, author, value, expires_at)
        tried = [self._begin(self._hand(peer, key_id, author, value, expires_at)) for peer in self._others()]
        if self._is_crowd:  # some of those that are nearest to the key may be no neighbours
            tried.append(self._begin(self._store(key, author, sealed, expires_at)))
        if tried:
            await asyncio.wait(tried, timeout=self._protocol.wait_timeout)

    async def news(self, since: Mapping[str, int], *, searches: bool) -> News:
        """Tell what has changed.

        Args:
            since: How far the last answer went, by key; 0 for everything.
            searches: Whether to look for what this node has missed before answering; a client always does.

        Returns:
            What is new.
        """
        if searches or self._protocol.client_mode:
            await self._search(list(since))
        elif due := _due(since, self._searched_at, self._search_every_s):
            self._begin(self._search(due))
        elif due := _due(since, self._asked_at, ASK_EVERY_S):
            self._begin(self._ask(due))
        newer = {key: self._newer(key, version) for key, version in since.items()}
        return self._version, newer

    @property
    def _is_crowd(self) -> bool:
        # Below that, no bucket of the routing table is full, and everybody knows everybody.
        bucket_size: int = self._protocol.bucket_size
        return len(self._protocol.routing_table.peer_id_to_uid) >= bucket_size

    @property
    def _search_every_s(self) -> float:
        return SEARCH_A_CROWD_EVERY_S if self._is_crowd else SEARCH_EVERY_S

    def _others(self) -> list[PeerID]:
        now, here = time.monotonic(), self._protocol.routing_table.peer_id_to_uid
        self._last_met = {peer: at for peer, at in self._last_met.items() if now - at < _LOST_S}
        self._last_met |= dict.fromkeys(here, now)
        latest = sorted(self._last_met, key=lambda peer: self._last_met[peer], reverse=True)
        return latest[:_MOST_AT_ONCE]

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop alone would not keep it
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hand(self, peer: PeerID, key_id: DHTID, author: str, value: bytes, expires_at: float) -> None:
        for number in range(TRIES):
            if number:
                await asyncio.sleep(_AGAIN_S)
            if self._is_replaced(key_id, author, expires_at):
                return
            with suppress(Exception):  # hivemind raises whatever a malformed answer leads to
                taken = await self._protocol.call_store(peer, [key_id], [value], [expires_at], [author])
                if taken is not None:
                    return

    def _is_replaced(self, key_id: DHTID, author: str, expires_at: float) -> bool:
        entry = self._protocol.storage.get(key_id)
        kept = entry.value.get(author) if entry is not None else None
        return kept is not None and kept.expiration_time > expires_at

    async def _store(self, key: str, author: str, sealed: bytes, expires_at: float) -> None:
        with suppress(Exception):
            await self._node.store(key, sealed, expires_at, subkey=author)

    async def _search(self, keys: list[str]) -> None:
        now = time.monotonic()
        self._searched_at |= dict.fromkeys(keys, now)
        self._asked_at |= dict.fromkeys(keys, now)
        with suppress(Exception):  # hivemind raises whatever a malformed answer leads to
            # One traversal for all keys, asking everybody who may have the latest.
            found = await self._node.get_many(keys, float("inf"), return_futures=True)
            await asyncio.wait(found.values(), timeout=_SEARCH_S)
            for key, answer in found.items():
                if answer.done():
                    self._take_in(key, answer.result())
                answer.cancel()  # what was not found in time is looked for again

    def _take_in(self, key: str, entry: Any) -> None:
        places = entry.value if entry is not None and isinstance(entry.value, dict) else {}
        for author, item in places.items():
            value = self._protocol.serializer.dumps(item.value)
            self._keep(DHTID.generate(source=key), author, value, item.expiration_time)

    async def _ask(self, keys: list[str]) -> None:
        self._asked_at |= dict.fromkeys(keys, time.monotonic())
        neighbours = list(self._protocol.routing_table.peer_id_to_uid)
        if not neighbours:
            return
        key_ids = [DHTID.generate(source=key) for key in keys]
        with suppress(Exception):  # hivemind raises whatever a malformed answer leads to
            found = await self._protocol.call_find(random.choice(neighbours), key_ids)
            for key_id, (entry, _) in (found or {}).items():
                places = entry.value.items() if entry and isinstance(entry.value, DictionaryDHTValue) else ()
                for author, item in places:
                    self._keep(key_id, author, item.value, item.expiration_time)

    def _keep(self, key_id: DHTID, author: Any, value: bytes, expires_at: float) -> None:
        storage = self._protocol.storage
        storage.store_subkey(key_id, author, value, expires_at)
        entry = storage.get(key_id)
        # Hivemind's search adds what it finds to the dictionary that is stored here, and leaves the date at
        # which that is dropped as a whole where it was.
        if entry is not None and entry.expiration_time < entry.value.latest_expiration_time:
            storage.store(key_id, entry.value, entry.value.latest_expiration_time)

    def _newer(self, key: str, since: int) -> list[bytes]:
        key_id = DHTID.generate(source=key)
        entry = self._protocol.storage.get(key_id)
        places = dict(entry.value.items()) if entry is not None else {}
        before, versions = self._versions.get(key_id, {}), {}
        for author, item in places.items():
            expires_at, version = before.get(author, (None, 0))
            if expires_at != item.expiration_time:
                version = self._version = self._version + 1
            versions[author] = item.expiration_time, version
        self._versions[key_id] = versions
        return [
            sealed
            for author, (_, version) in versions.items()
            if version > since and (sealed := _unpacked(places[author].value)) is not None
        ]


def _unpacked(value: bytes) -> bytes | None:
    # Validators let nothing else in; a node without them must not be ended by what it was handed.
    try:
        sealed = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return None
    return sealed if isinstance(sealed, bytes) else None


def _due(keys: Iterable[str], last: Mapping[str, float], every_s: float) -> list[str]:
    now = time.monotonic()
    return [key for key in keys if now - last.get(key, float("-inf")) >= every_s]


_replicas: WeakKeyDictionary[DHTNode, Replica] = WeakKeyDictionary()


def _replica(node: DHTNode) -> Replica:
    if node not in _replicas:
        _replicas[node] = Replica(node)
    return _replicas[node]


async def post(key: str, author: str, sealed: bytes, expires_at: float, _dht: DHT, node: DHTNode) -> None:
    """Let the node hand a record out.

    Args:
        key: As for `Replica.post`, like the others.
        author: The same.
        sealed: The same.
        expires_at: The same.
        node: Whose replica.
    """
    await _replica(node).post(key, author, sealed, expires_at)


async def news(since: Mapping[str, int], searches: bool, _dht: DHT, node: DHTNode) -> News:
    """Ask the node what has changed.

    Args:
        since: As for `Replica.news`.
        searches: The same.
        node: Whose replica.

    Returns:
        What is new.
    """
    return await _replica(node).news(since, searches=searches)
