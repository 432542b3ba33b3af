"""Cancelled reduces and calls of real averagers."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from paceline.core.errors import TransferFailed
from paceline.learning.aggregate import weighted_mean
from paceline.learning.codecs import make_codec
from paceline.network.averager import Averager
from paceline.network.butterfly import Arithmetic, ReduceOrder
from paceline.network.dht import PeerDht
from tests.network import attacks
from tests.network.reduce_swarm import Peer, agreed, begin, order_for, reduce, swarm

pytestmark = pytest.mark.live
SOON_S = 8.0
LATER_S = 25.0


@pytest.fixture(scope="module")
def peers() -> Iterator[list[Peer]]:
    with swarm(3, num_elements=1000, codec="fp32") as started:
        yield started


@pytest.fixture(scope="module")
def averager() -> Iterator[Averager]:
    with (
        PeerDht() as dht,
        Averager(
            dht,
            num_elements=10,
            arithmetic=Arithmetic(make_codec("fp32"), weighted_mean),
            prefix="cancelling",
        ) as started,
    ):
        yield started


def alone(averager: Averager) -> ReduceOrder:
    me = averager.dht.peer_id.to_base58()
    return ReduceOrder(secrets.token_hex(32), (me,), (1,), start_s=5.0, stall_s=5.0, total_s=20.0)


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON_S


def cancelled(call: Callable[[], Any]) -> bool:
    try:
        call()
    except TransferFailed as error:
        return error.cause == "cancelled by this peer"
    return False


def test_a_cancel_that_comes_before_its_attempt_is_not_lost(peers: list[Peer]) -> None:
    order = order_for(peers)
    peers[0].tell("cancel", key=order["key"])
    with soon():
        begin(peers, order)
        outcomes = [peer.hear() for peer in peers]
    assert outcomes[0]["cause"] == "cancelled by this peer"
    assert {outcome["complete"] for outcome in outcomes} == {False}
    assert {outcome["blamed"] for outcome in outcomes} == {peers[0].peer_id}
    assert agreed(reduce(peers))


def test_a_cancel_with_another_key_lets_an_attempt_be(peers: list[Peer]) -> None:
    order = order_for(peers)
    begin(peers[:2], order)
    peers[0].tell("cancel", key=secrets.token_hex(32))
    begin(peers[2:], order)
    assert {peer.hear()["complete"] for peer in peers} == {True}


def test_a_cancelled_call_ends_soon_and_says_so(averager: Averager) -> None:
    asked = averager._cancels._asked
    with ThreadPoolExecutor(4) as pool, soon():
        calls = [
            pool.submit(cancelled, lambda: averager.call(attacks.sleep, 60.0, seconds=LATER_S))
            for _ in range(4)
        ]
        while averager._cancels._asked < asked + 4:
            time.sleep(0.001)
        averager.cancel()
        assert [call.result() for call in calls] == [True] * 4
    assert averager.call(attacks.echo, 30.0, text="still").startswith("still")


def test_a_call_is_cancelled_from_a_signal_handler_though_the_control_pipe_is_held(
    averager: Averager,
) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: averager.cancel())
    held, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with averager._outer_pipe._sending:
            held.set()
            ended.wait(60)

    timer = threading.Timer(0.5, lambda: threading.Thread(target=hold, daemon=True).start())
    try:
        timer.start()
        with ThreadPoolExecutor(1) as pool, soon():
            call = pool.submit(cancelled, lambda: averager.call(attacks.sleep, 60.0, seconds=LATER_S))
            assert held.wait(10)
            signal.raise_signal(signal.SIGALRM)
            assert call.result()
    finally:
        ended.set()
        signal.signal(signal.SIGALRM, before)


def test_a_cancel_is_over_once_it_has_done_its_work(averager: Averager) -> None:
    averager.cancel()
    averager.cancel(secrets.token_hex(32))
    averager.buffer[:] = np.arange(10)
    assert averager.reduce(alone(averager)).complete
    assert averager.call(attacks.echo, 30.0, text="here").startswith("here")


def test_a_member_alone_may_be_cancelled_too(averager: Averager) -> None:
    order = alone(averager)
    averager.cancel(order.key)
    outcome = averager.reduce(order)
    assert (outcome.complete, outcome.cause) == (False, "cancelled by this peer")
