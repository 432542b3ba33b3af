"""The DHT's process: safe among threads, bound to its peer, and clear about what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hivemind.dht import DHT, DHTNode
from hivemind.p2p import P2P
from hivemind.utils import MPFuture, get_dht_time

from paceline.core.errors import JoinError, ProcessDied, SeedsUnreachable
from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.averager import Averager
from paceline.network.butterfly import Arithmetic
from paceline.network.dht import PeerDht
from tests.network.attacks import echo, nested_store
from tests.network.reduce_swarm import gone, status, swarm, until

pytestmark = pytest.mark.live
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWB9Yn1Xg13Fn1SSFrWoNSXN9q58bwVAncH5kov78jqi9P"


@pytest.fixture(scope="module")
def dht() -> Iterator[PeerDht]:
    with PeerDht() as started:
        yield started


def test_eight_threads_may_store_300_kb_each_at_once(dht: PeerDht) -> None:
    stored: list[bool] = []

    def store(key: str) -> None:
        stored.append(dht.store(key, os.urandom(300_000), get_dht_time() + 60))

    for start in range(3):
        threads = [threading.Thread(target=store, args=(f"{start}-{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert stored == [True] * 24
    assert len(dht.get("2-7", latest=True).value) == 300_000
    assert dht.is_alive()


def test_a_nested_value_from_the_network_is_refused_and_the_node_lives(dht: PeerDht) -> None:
    async def attack() -> str:
        p2p = await P2P.create(initial_peers=dht.get_visible_maddrs(), startup_timeout=60)
        try:
            return await nested_store(p2p, dht.peer_id.to_base58(), 195)
        finally:
            await p2p.shutdown()

    assert "nested more than" in asyncio.run(attack())
    assert dht.store("after", 1, get_dht_time() + 60)


def test_a_node_joins_through_one_address_of_another(dht: PeerDht) -> None:
    dht.store("greeting", "hello", get_dht_time() + 60)
    with PeerDht([str(dht.get_visible_maddrs()[0])]) as other:
        assert other.get("greeting", latest=True).value == "hello"
        assert other.peer_id != dht.peer_id


async def _node_id(_: DHT, node: DHTNode) -> str:
    return str(node.node_id)


def test_a_node_comes_back_to_its_place_in_the_dht(tmp_path: Path) -> None:
    places = []
    for _ in range(2):
        with PeerDht(identity_path=str(tmp_path / "peer.key")) as node:
            places.append(node.run_coroutine(_node_id))
    assert places[0] == places[1]


def test_unreachable_seeds_are_named() -> None:
    with pytest.raises(SeedsUnreachable, match=NOBODY):
        PeerDht([NOBODY]).start_or_raise(60.0)


def test_a_port_in_use_is_an_error_that_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        maddr = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        with pytest.raises(JoinError, match="did not start"):
            PeerDht(host_maddrs=[maddr]).start_or_raise(60.0)


def test_a_call_to_a_dead_node_raises_and_does_not_hang() -> None:
    dht = PeerDht()
    dht.start_or_raise()
    assert dht.pid is not None
    os.kill(dht.pid, signal.SIGKILL)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(ProcessDied):
            dht.get("key")
    with pytest.raises(ProcessDied):
        dht.store("key", bytes(100_000), get_dht_time() + 60)
    assert time.monotonic() - began < 10.0
    dht.shutdown()


async def _wait_unheld(_dht: DHT, _node: DHTNode) -> int:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()
    held_weakly = weakref.ref(answer)  # as asyncio's streams hold their readers

    def come() -> None:
        if (waiting := held_weakly()) is not None:
            waiting.set_result(7)

    loop.call_later(0.2, gc.collect)
    loop.call_later(0.4, come)
    return await answer


def test_a_coroutine_is_not_collected_as_garbage_while_it_waits() -> None:
    with PeerDht() as dht:
        assert dht.run_coroutine(_wait_unheld, return_future=True).result(30.0) == 7


def test_a_node_that_is_shut_down_has_not_lost_its_daemon() -> None:
    with PeerDht() as dht:
        pass
    assert dht.exitcode == 0
    with pytest.raises(ProcessDied, match="DHT"):
        dht.get("key")


def test_a_process_killed_in_mid_answer_does_not_silence_the_others() -> None:
    with (
        MPFuture._update_lock,  # which such a process would take along
        PeerDht() as dht,
        Averager(
            dht, num_elements=1, arithmetic=Arithmetic(make_codec("fp32"), weighted_mean), prefix="p"
        ) as averager,
    ):
        assert dht.store("key", "value", get_dht_time() + 60)
        assert averager.call(echo, 30.0, text="hello").startswith("hello")


def _children_of(parent: int) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return [pid for pid in pids if f"\nPPid:\t{parent}\n" in status(pid)]


@pytest.mark.skipif(sys.platform != "linux", reason="the daemon is found through /proc")
def test_the_node_ends_when_its_daemon_does() -> None:
    dht = PeerDht()
    dht.start_or_raise()
    assert dht.pid is not None
    (daemon,) = _children_of(dht.pid)
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not dht.is_alive())
    with pytest.raises(ProcessDied, match="network daemon"):
        dht.check()
    with pytest.raises(ProcessDied, match="network daemon process died"):
        dht.get("key")
    dht.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed peer's children live on")
def test_the_node_and_its_daemon_die_with_the_peer() -> None:
    with swarm(1, num_elements=1, codec="fp32") as (peer,):
        dht, averager = peer.pids
        family = [dht, averager, *_children_of(dht)]
        assert len(family) == 3
        os.kill(peer.main_pid, signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in family))
