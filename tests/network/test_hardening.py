"""The corrections to hivemind work."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from hivemind.p2p import P2P
from hivemind.utils.serializer import MSGPackSerializer

from paceline.network import hardening
from paceline.network.hardening import SafePipe, harden, sweep_sockets
from tests.network.attacks import nested


@pytest.fixture(autouse=True)
def _hardened() -> None:
    harden()


def test_a_second_harden_changes_nothing() -> None:
    before = (P2P.receive_raw_data, P2P._make_process_args, MSGPackSerializer._decode_ext_types)
    harden()
    assert (P2P.receive_raw_data, P2P._make_process_args, MSGPackSerializer._decode_ext_types) == before


def test_values_nested_as_deep_as_records_are_travel() -> None:
    value: Any = ()
    for _ in range(hardening.MAX_NESTING - 1):
        value = (value, 1)
    assert MSGPackSerializer.loads(MSGPackSerializer.dumps(value)) == value


@pytest.mark.parametrize("depth", [hardening.MAX_NESTING + 1, 195, 20_000])
def test_values_nested_deeper_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="nested"):
        MSGPackSerializer.loads(nested(depth))
    assert MSGPackSerializer.loads(MSGPackSerializer.dumps((1, (2,)))) == (1, (2,))


def _reader(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    return reader


def _header(length: int) -> bytes:
    return length.to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER)


def test_a_message_within_the_limit_is_received() -> None:
    async def play() -> bytes:
        received: bytes = await P2P.receive_raw_data(_reader(_header(5) + b"hello"))
        return received

    assert asyncio.run(play()) == b"hello"


def test_a_message_beyond_the_limit_is_refused_before_its_body_comes() -> None:
    async def play() -> None:
        await P2P.receive_raw_data(_reader(_header(1 << 40)))

    with pytest.raises(ValueError, match="limit"):
        asyncio.run(play())


def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "BODY_TIMEOUT_S", 0.1)

    async def play() -> None:
        await P2P.receive_raw_data(_reader(_header(5) + b"hel"))

    with pytest.raises(TimeoutError):
        asyncio.run(play())


def _socket(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    return bound


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_sockets_of_dead_peers_are_swept_and_others_left(tmp_path: Path) -> None:
    dead = _dead_pid()
    names = {
        "left behind": f"paceline-{dead}-p2pd-abc_-1.sock",
        "of a living peer": f"paceline-{os.getpid()}-p2pclient-abc.sock",
        "of another container": f"paceline-{dead}-p2pd-xyz.sock",
        "of somebody else": f"hivemind-{dead}-p2pd-abc.sock",
    }
    held = {label: _socket(tmp_path / name) for label, name in names.items()}
    held["of another container"].listen()
    sweep_sockets(tmp_path)
    kept = {label for label, name in names.items() if (tmp_path / name).exists()}
    assert kept == set(names) - {"left behind"}
    for bound in held.values():
        bound.close()


def test_messages_of_many_threads_arrive_whole_though_the_reading_end_is_non_blocking() -> None:
    reading, writing = map(SafePipe, Pipe(duplex=False))
    os.set_blocking(reading.fileno(), False)  # as hivemind's event loop leaves it
    payloads = [bytes([number]) * 300_000 for number in range(8)]
    threads = [threading.Thread(target=writing.send, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    received = []
    for _ in payloads:
        assert reading.poll(20.0)
        received.append(reading.recv())
    assert sorted(received) == payloads
    for pipe in (reading, writing):
        pipe.close()
