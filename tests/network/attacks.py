"""What bad peers do. `commit` turns this process, and all it forks, into one; the rest are raw calls."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from hivemind.p2p import P2P, PeerID
from hivemind.proto import dht_pb2
from hivemind.proto.averaging_pb2 import DUPLICATE_PEER_ID, PART_FOR_AVERAGING, AveragingData
from hivemind.proto.runtime_pb2 import Tensor

from paceline.network import exchange
from paceline.network.line import Line
from paceline.network.messages import Message, carry

PARTS_FIRST = 40
"""How many good parts a bad peer sends before it turns bad."""


def commit(attack: str) -> None:
    """Become the bad peer of that name; the empty name is a good one."""
    if attack == "twice":
        setattr(exchange.Exchange, "_send", _send_twice)  # noqa: B010
    elif attack:
        setattr(exchange, "carry", _after(PARTS_FIRST, _ATTACKS[attack]))  # noqa: B010


def _after(count: int, attack: Callable[[bytes], Any]) -> Callable[[int, bytes], Any]:
    sent = 0

    def send(code: int, payload: bytes) -> Any:
        nonlocal sent
        sent += 1
        return attack(payload) if sent > count else carry(code, payload)

    return send


def _nan(payload: bytes) -> Message:
    values = np.frombuffer(payload, np.float32).copy()
    values[0] = np.nan
    return carry(PART_FOR_AVERAGING, values.tobytes())


def _shape(payload: bytes) -> Message:
    return carry(PART_FOR_AVERAGING, payload[:4])


def _weight(payload: bytes) -> AveragingData:
    return AveragingData(code=PART_FOR_AVERAGING, tensor_part=Tensor(buffer=bytes(payload)), weight=1e9)


def _header(payload: bytes) -> AveragingData:
    class Giant:
        @staticmethod
        def SerializeToString() -> Any:
            return _Claims(payload)

    return Giant()


class _Claims(bytes):
    def __len__(self) -> int:
        return 1 << 40


def _die(payload: bytes) -> Message:
    os.killpg(0, signal.SIGKILL)
    raise AssertionError


def _stop(payload: bytes) -> Message:
    os.killpg(0, signal.SIGSTOP)
    return carry(PART_FOR_AVERAGING, payload)


def _lose_averager(payload: bytes) -> Message:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _lose_daemon(payload: bytes) -> Message:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _is_our_daemon(int(folder.name)):
            os.kill(int(folder.name), signal.SIGKILL)
    return carry(PART_FOR_AVERAGING, payload)


def _is_our_daemon(pid: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
        return name == "p2pd" and os.getpgid(pid) == os.getpgrp()
    except OSError:
        return False


_send = exchange.Exchange._send


async def _send_twice(self: exchange.Exchange, line: Line) -> None:
    """Open a second line to the same reducer, and send rubbish on it whatever it answers."""
    second = await self._dial(self.peer)
    group_id = self._group.order.group_id
    await second.send(AveragingData(code=PART_FOR_AVERAGING, group_id=group_id), 10.0)
    answer = await second.receive()
    if answer is None or answer.code != DUPLICATE_PEER_ID:
        os.killpg(0, signal.SIGKILL)  # it was let in: make the round fail
    with suppress(OSError):
        await second.send(carry(PART_FOR_AVERAGING, b"rubbish"), 10.0)
    await _send(self, line)


_ATTACKS: dict[str, Callable[[bytes], Any]] = {
    "nan": _nan,
    "shape": _shape,
    "weight": _weight,
    "header": _header,
    "die": _die,
    "stop": _stop,
    "lose averager": _lose_averager,
    "lose daemon": _lose_daemon,
}


async def _stream(p2p: P2P, victim: str, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    _, reader, writer = await p2p.call_binary_stream_handler(PeerID.from_base58(victim), name)
    return reader, writer


async def giant_header(p2p: P2P, victim: str, name: str) -> int:
    """Claim a terabyte, send some of it; tells how many bytes came back before the victim hung up."""
    reader, writer = await _stream(p2p, victim, name)
    writer.write(P2P.MESSAGE_MARKER + (1 << 40).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER) + bytes(1000))
    answer = await asyncio.wait_for(reader.read(), 20.0)
    writer.close()
    return len(answer)


def nested(depth: int) -> bytes:
    """Nest msgpack tuples as hivemind spells them."""
    data: bytes = msgpack.packb([])
    for _ in range(depth):
        data = msgpack.packb([msgpack.ExtType(0x40, data)])
    return data


async def nested_store(p2p: P2P, victim: str, depth: int) -> str:
    """Store a value that is nested deeply; tells how the victim answered."""
    value = nested(depth)
    request = dht_pb2.StoreRequest(
        keys=[bytes(20)], subkeys=[value], values=[value], expiration_time=[4e9], in_cache=[False]
    )
    try:
        await asyncio.wait_for(
            p2p.call_protobuf_handler(
                PeerID.from_base58(victim), "DHTProtocol.rpc_store", request, dht_pb2.StoreResponse
            ),
            20.0,
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "stored"


async def echo(p2p: P2P, text: str) -> str:
    """No attack: shows that a call reaches the averager's process."""
    return f"{text} from {os.getpid()}"


async def sleep(p2p: P2P, seconds: float) -> None:
    """No attack: takes its time."""
    await asyncio.sleep(seconds)


class Untransportable(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


async def fail(p2p: P2P) -> None:
    """No attack: raises what can't travel."""
    raise Untransportable("one", "two")
