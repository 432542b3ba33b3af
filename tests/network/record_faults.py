"""What a DHT node makes of dictionaries of records that others send it. Stock hivemind: believes them.

Run as a program of its own, far from any correction, it tells the faults of stock hivemind as JSON.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Any

import msgpack
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.proto import dht_pb2

KEY = DHTID.generate(source="key")


class Picky(RecordValidatorBase):  # type: ignore[misc]
    def validate(self, record: DHTRecord) -> bool:
        return bool(record.value == b"good")


class Answering:
    """In place of the network: a peer's answer to whatever is asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def rpc_find(self, request: Any, timeout: float) -> Any:
        kind = dht_pb2.FOUND_DICTIONARY
        found = dht_pb2.FindResult(type=kind, value=self.answer, expiration_time=math.inf)
        return dht_pb2.FindResponse(results=[found], peer=dht_pb2.NodeInfo())


async def ask(answer: bytes) -> Any:
    protocol = DHTProtocol(_initialized_with_create=True)
    protocol.record_validator, protocol.wait_timeout = Picky(), 1.0
    protocol.node_info, protocol.rpc_semaphore = dht_pb2.NodeInfo(), asyncio.Semaphore(1)
    protocol.get_stub = lambda peer: Answering(answer)
    found, _ = (await protocol.call_find(None, [KEY]))[KEY]
    return found


def told(maxsize: Any = None, **values: bytes) -> bytes:
    """A dictionary as it travels, and as no honest node would pack it."""
    items = [[subkey, value, time.time() + 60.0] for subkey, value in values.items()]
    return bytes(msgpack.packb(msgpack.ExtType(0x50, msgpack.packb([maxsize, math.inf, items]))))


def forgets_with_what_came_late() -> bool:
    dictionary = DictionaryDHTValue()
    now = time.time()
    dictionary.store("author", b"newer", now + 60.0)
    dictionary.store("author", b"older", now + 0.2)
    while time.time() <= now + 0.2:
        time.sleep(0.01)
    return dictionary.get("author") is None


def faults() -> dict[str, bool]:
    mixed = asyncio.run(ask(told(one=b"good", two=b"bad")))
    empty = asyncio.run(ask(told()))
    sized = asyncio.run(ask(told(one=b"good", maxsize="x")))
    return {
        "forgets with what came late": forgets_with_what_came_late(),
        "drops the good with the bad": mixed is None or set(mixed.value.data) != {"one"},
        "believes an expiry": sized.expiration_time == math.inf,
        "believes an expiry of nothing": empty is not None and empty.expiration_time == math.inf,
        "believes a size": sized.value.maxsize == "x",
    }


if __name__ == "__main__":
    print(json.dumps(faults()))
