"""The all-reduce between real peers on loopback: each a process tree with its own daemon."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paceline.core.errors import ProcessDied, TransferFailed
from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network import averager as averager_module
from paceline.network.averager import Averager
from paceline.network.butterfly import Arithmetic, ReduceOrder
from paceline.network.dht import PeerDht
from tests.network import attacks
from tests.network.reduce_swarm import (
    Peer,
    agreed,
    begin,
    expected,
    gone,
    order_for,
    reduce,
    swarm,
    until,
)

pytestmark = pytest.mark.live

NUM_ELEMENTS = 100_003
PART_ELEMENTS = 1 << 12


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def peers(codec: str) -> Iterator[list[Peer]]:
    with swarm(4, num_elements=NUM_ELEMENTS, codec=codec, part_elements=PART_ELEMENTS) as started:
        yield started


def test_all_members_of_a_complete_reduce_hold_the_same_bits(peers: list[Peer], codec: str) -> None:
    for weights in [(1, 1, 1, 1), (5, 1, 2, 9), (0, 3, 1, 1), (7, 0, 0, 1), (2, 2, 0, 3)]:
        order = order_for(peers, weights)
        seeds = begin(peers, order)
        outcomes = [peer.hear() for peer in peers]
        assert agreed(outcomes), outcomes
        mean = expected(order, seeds, NUM_ELEMENTS, codec)
        assert outcomes[0]["sha"] == hashlib.sha256(mean.data).hexdigest()


@pytest.mark.parametrize("codec", ["bf16", "int8", "int4", "int2", "topk"])
def test_all_members_hold_the_same_bits_with_a_codec_of_blocks(codec: str) -> None:
    with swarm(3, num_elements=NUM_ELEMENTS, codec=codec, part_elements=PART_ELEMENTS) as started:
        for weights in [(1, 1, 1), (5, 0, 2)]:
            order = order_for(started, weights)
            seeds = begin(started, order)
            outcomes = [peer.hear() for peer in started]
            assert agreed(outcomes), outcomes
            mean = expected(order, seeds, NUM_ELEMENTS, codec)
            assert outcomes[0]["sha"] == hashlib.sha256(mean.data).hexdigest()


def test_sixty_rounds_in_a_row_lose_nothing(peers: list[Peer]) -> None:
    outcomes = [reduce(peers) for _ in range(60)]
    assert [round_ for round_ in outcomes if not agreed(round_)] == []


def test_any_subset_of_the_swarm_can_be_the_roster(peers: list[Peer]) -> None:
    for roster in (peers[:2], peers[1:], peers[2:3]):
        assert agreed(reduce(roster))


def test_the_payload_is_counted(peers: list[Peer], codec: str) -> None:
    outcomes = reduce(peers)
    size = NUM_ELEMENTS * (4 if codec == "fp32" else 2)
    assert sum(o["bytes_out"] for o in outcomes) == sum(o["bytes_in"] for o in outcomes) == 2 * 3 * size


def test_an_order_without_weight_is_refused(peers: list[Peer]) -> None:
    begin(peers, order_for(peers, (0, 0, 0, 0)))
    outcomes = [peer.hear() for peer in peers]
    assert [outcome["cause"] for outcome in outcomes] == ["no member has weight"] * 4


def test_an_order_for_others_is_refused(peers: list[Peer]) -> None:
    begin(peers[:1], order_for(peers[1:]))
    assert peers[0].hear()["cause"] == "this peer is not in the roster"


def test_an_attempt_is_never_made_twice(peers: list[Peer]) -> None:
    order = order_for(peers)
    begin(peers, order)
    assert agreed([peer.hear() for peer in peers])
    begin(peers, order)
    assert {peer.hear()["cause"] for peer in peers} == {"this attempt was made before"}


def test_a_cancelled_reduce_ends_soon_for_everybody(peers: list[Peer]) -> None:
    order = order_for(peers)
    began = time.monotonic()
    begin(peers[:3], order)  # the fourth never comes
    while not peers[0].has_answered():  # without a key, a cancel that comes too early does nothing
        peers[0].tell("cancel")
        time.sleep(0.05)
    outcomes = [peer.hear() for peer in peers[:3]]
    assert time.monotonic() - began < 10.0
    assert {outcome["blamed"] for outcome in outcomes} == {peers[0].peer_id}
    assert agreed(reduce(peers))


def test_a_call_runs_in_the_averagers_process(peers: list[Peer]) -> None:
    answer = peers[0].ask("call", function="echo", text="hello")
    assert answer["result"] == f"hello from {peers[0].pids[1]}"


def test_a_call_raises_what_the_function_raises_even_if_that_cannot_travel(peers: list[Peer]) -> None:
    assert peers[0].ask("call", function="fail")["error"] == "RuntimeError: Untransportable: one two"


# --- one peer, in this process


@pytest.fixture(scope="module")
def dht() -> Iterator[PeerDht]:
    with PeerDht() as started:
        yield started


def _alone(dht: PeerDht, **limits: Any) -> ReduceOrder:
    given: dict[str, Any] = {"start_s": 5.0, "stall_s": 5.0, "total_s": 20.0, **limits}
    return ReduceOrder(secrets.token_hex(32), (dht.peer_id.to_base58(),), (1,), **given)


def _averager(dht: PeerDht) -> Averager:
    # A name of its own each time: the daemon remembers the handlers of a killed process.
    return Averager(
        dht,
        num_elements=10,
        arithmetic=Arithmetic(make_codec("fp32"), weighted_mean),
        others=[Arithmetic(make_codec("int8"), weighted_mean)],
        prefix=secrets.token_hex(4),
    )


def test_starting_leaves_sigint_as_it_was(dht: PeerDht) -> None:
    before = signal.getsignal(signal.SIGINT)
    with _averager(dht):
        assert signal.getsignal(signal.SIGINT) is before


def test_a_member_alone_gets_its_own_values_back(dht: PeerDht) -> None:
    with _averager(dht) as averager:
        averager.buffer[:] = np.arange(10)
        assert averager.reduce(_alone(dht)).complete
        assert averager.buffer.tolist() == list(range(10))


def test_an_order_says_through_which_codec_its_values_go(dht: PeerDht) -> None:
    values, int8 = np.linspace(-1, 1, 10, dtype=np.float32), make_codec("int8")
    rounded = int8.decode(int8.encode(values), 10)
    assert (rounded != values).any()
    with _averager(dht) as averager:
        for codec, expected_values in (("int8", rounded), (None, values), ("fp32", values)):
            averager.buffer[:] = values
            assert averager.reduce(_alone(dht, codec=codec)).complete
            once_more = int8.decode(int8.encode(expected_values), 10) if codec == "int8" else expected_values
            np.testing.assert_array_equal(averager.buffer, once_more)
        with pytest.raises(ValueError, match="int4 is none of fp32, int8"):
            averager.reduce(_alone(dht, codec="int4"))


def test_a_reduce_of_some_values_leaves_the_rest_of_the_buffer_alone(dht: PeerDht) -> None:
    with _averager(dht) as averager:
        averager.buffer[:] = np.arange(10)
        assert averager.reduce(_alone(dht, num_elements=4)).complete
        assert averager.buffer.tolist() == list(range(10))
        with pytest.raises(ValueError, match="11 values to average in a buffer of 10"):
            averager.reduce(_alone(dht, num_elements=11))


def test_a_reduce_ends_within_its_time_limit_whatever_happens(
    dht: PeerDht, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averager_module, "_GRACE_S", 1.0)
    with _averager(dht) as averager:
        assert averager.pid is not None
        os.kill(averager.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(ProcessDied):
            averager.reduce(_alone(dht, total_s=1.0))
        assert time.monotonic() - began < 10.0
        until(lambda: not averager.is_alive())  # so that it can't write to the buffer any more


def test_a_call_to_a_dead_averager_raises_and_does_not_hang(dht: PeerDht) -> None:
    with _averager(dht) as averager:
        assert averager.pid is not None
        os.kill(averager.pid, signal.SIGKILL)
        with pytest.raises(ProcessDied):
            averager.call(attacks.sleep, 60.0, seconds=50.0)
        averager.cancel()


def test_a_call_that_takes_too_long_raises(dht: PeerDht) -> None:
    with _averager(dht) as averager, pytest.raises(TransferFailed, match=r"not done within \d[\d.]* s"):
        averager.call(attacks.sleep, 0.2, seconds=50.0)


def test_nothing_lies_in_shared_memory_or_among_the_sockets_after_a_shutdown(dht: PeerDht) -> None:
    def traces() -> set[Path]:
        return {*Path("/tmp").glob(f"paceline-{os.getpid()}-*"), *Path("/dev/shm").glob("paceline*")}

    before = traces()
    with _averager(dht):
        assert traces() > before
    assert traces() == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed peer's children live on")
def test_the_process_dies_with_the_peer() -> None:
    with swarm(1, num_elements=1, codec="fp32") as (peer,):
        os.kill(peer.main_pid, signal.SIGKILL)
        until(lambda: gone(peer.pids[1]))


def test_peers_stop_cleanly(codec: str) -> None:
    with swarm(1, num_elements=1, codec=codec) as (peer,):
        assert peer.ask("stop")["stopped"]
