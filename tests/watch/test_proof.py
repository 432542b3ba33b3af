"""Asking peers to prove that they serve what they announce, and what may come instead of an answer."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from paceline.core.proof import is_proof, prove
from paceline.core.signing import SigningKey
from paceline.telemetry import Health, MetricsServer
from paceline.watch.proof import ASK_AGAIN_S, MAX_ANSWER_BYTES, Place, Prover, fetch, place_of
from tests.core.history import peers

ME, OTHER = peers(2)
RUN_ID, NONCE = "run-12345678", "ab" * 16
LOOPBACK = {ME.peer_id: {"127.0.0.1"}, OTHER.peer_id: {"127.0.0.1"}}


@contextmanager
def serving(key: SigningKey, announced: str = "") -> Iterator[str]:
    """A peer's metrics server; it signs for its own address unless another is given."""
    registry, healthy = CollectorRegistry(), partial(Health, healthy=True)
    addresses: list[str] = []
    server = MetricsServer(
        "127.0.0.1", 0, registry, healthy, lambda nonce: prove(key, nonce, RUN_ID, addresses[0])
    )
    with server:
        addresses.append(announced or server.address)
        yield server.address


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port where whoever calls is treated in a way of one's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=30)


def judged(announced: dict[str, str]) -> dict[str, bool | None]:
    prover = Prover(RUN_ID)
    prover.ask(announced, prover.due(announced, LOOPBACK, 0.0))
    return {peer_id: prover.is_reachable(peer_id, address) for peer_id, address in announced.items()}


def place(address: str) -> Place:
    found = place_of(address, {"127.0.0.1"})
    assert found is not None
    return found


def test_a_peer_proves_that_it_serves_its_address() -> None:
    with serving(ME) as address:
        assert judged({ME.peer_id: address}) == {ME.peer_id: True}


def test_a_peer_that_announces_somebody_elses_address_is_not_reachable() -> None:
    with serving(ME) as address:
        assert judged({OTHER.peer_id: address}) == {OTHER.peer_id: False}
        # And it can't keep the rightful one from being asked.
        announced = {OTHER.peer_id: address, ME.peer_id: address}
        assert judged(announced) == {OTHER.peer_id: False, ME.peer_id: True}


def test_a_proof_for_another_address_or_run_is_none() -> None:
    with serving(ME, announced="127.0.0.1:1") as address:
        assert judged({ME.peer_id: address}) == {ME.peer_id: False}
    answer = prove(ME, NONCE, RUN_ID, "127.0.0.1:1").encode()
    assert is_proof(answer, ME.peer_id, NONCE, RUN_ID, "127.0.0.1:1")
    assert not is_proof(answer, ME.peer_id, "cd" * 16, RUN_ID, "127.0.0.1:1")
    assert not is_proof(answer, ME.peer_id, NONCE, "another", "127.0.0.1:1")
    assert not is_proof(answer, OTHER.peer_id, NONCE, RUN_ID, "127.0.0.1:1")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"signature": 7}',
        b'{"signature": "zz"}',
        b'{"signature": "00"}',
        b"[" * 900,
    ],
)
def test_what_is_no_proof_is_refused(answer: bytes) -> None:
    assert not is_proof(answer, ME.peer_id, NONCE, RUN_ID, "127.0.0.1:1")


def test_a_closed_port_is_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert judged({ME.peer_id: f"127.0.0.1:{port}"}) == {ME.peer_id: False}


def test_however_slowly_the_answer_drips_it_is_waited_for_no_longer_than_its_limit() -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        while not stop.wait(0.02):
            connection.sendall(b" ")

    with answering(drip) as address:
        began = time.monotonic()
        assert fetch(place(address), NONCE, limit_s=0.5) is None
        stop.set()
    assert time.monotonic() - began < 30


def test_no_more_than_a_few_kilobytes_are_read_of_an_answer() -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while sent < 64 << 20:
            sent += connection.send(b"x" * 4096)

    with answering(pour) as address:
        assert fetch(place(address), NONCE, limit_s=20.0) is None
    assert sent < 16 << 20  # what the system had buffered when we hung up


def test_a_body_that_just_fits_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    for size, fits in ((MAX_ANSWER_BYTES - len(head), True), (MAX_ANSWER_BYTES - len(head) + 1, False)):
        with answering(partial(_say, head + b"x" * size)) as address:
            assert (fetch(place(address), NONCE) is not None) == fits


def test_a_redirect_is_not_followed() -> None:
    with serving(ME) as address:
        head = f"HTTP/1.0 302 Found\r\nLocation: http://{address}/proof?nonce={NONCE}\r\n\r\n".encode()
        with answering(partial(_say, head)) as redirecting:
            assert fetch(place(redirecting), NONCE) is None


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense", b"HTTP/1.0 404 Not found\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n"]
)
def test_what_is_no_good_answer_is_dropped(answer: bytes) -> None:
    with answering(partial(_say, answer)) as address:
        assert fetch(place(address), NONCE) is None


def _say(answer: bytes, connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(answer)


@pytest.mark.parametrize(
    ("address", "hosts", "allowed"),
    [
        ("192.0.2.7:9100", {"192.0.2.7"}, True),
        ("192.0.2.7:9100", {"192.0.2.8"}, False),  # a port of somebody else's
        ("192.0.2.7:9100", set(), False),
        ("127.0.0.1:22", {"192.0.2.7"}, False),  # a port of the monitor's own machine
        ("10.0.0.1:80", {"192.0.2.7"}, False),
        ("127.0.0.1:9100", {"127.0.0.1"}, True),
        ("127.0.0.2:9100", {"127.0.0.1"}, True),
        ("localhost:9100", {"127.0.0.1"}, True),
        ("[::1]:9100", {"127.0.0.1"}, True),
        ("[2001:db8::7]:9100", {"2001:db8:0::7"}, True),
        ("[2001:db8::7]:9100", {"2001:db8::8"}, False),
        ("169.254.169.254:80", {"127.0.0.1"}, False),
        ("metrics.example.org:9100", {"192.0.2.7"}, False),  # a name can mean anything
        ("192.0.2.7", {"192.0.2.7"}, False),
        ("192.0.2.7:0", {"192.0.2.7"}, False),
        ("192.0.2.7:70000", {"192.0.2.7"}, False),
        ("192.0.2.7:9100/../x", {"192.0.2.7"}, False),
        ("192.0.2.7:80 HTTP/1.0\r\nX: y", {"192.0.2.7"}, False),
        ("user@192.0.2.7:80", {"192.0.2.7"}, False),
        ("3221225991:80", {"192.0.2.7"}, False),
        ("", {"192.0.2.7"}, False),
    ],
)
def test_a_peer_is_asked_only_where_it_is_itself(address: str, hosts: set[str], allowed: bool) -> None:
    assert (place_of(address, hosts) is not None) == allowed


def test_nobody_is_asked_more_often_than_twice_a_minute() -> None:
    prover, announced = Prover(RUN_ID), {ME.peer_id: "127.0.0.1:9100"}
    assert prover.due(announced, LOOPBACK, 0.0) == {Place("127.0.0.1", 9100): [ME.peer_id]}
    for moved in ("127.0.0.1:9100", "127.0.0.1:9101", "127.0.0.2:22"):  # nor elsewhere: that is a port scan
        assert prover.due({ME.peer_id: moved}, LOOPBACK, ASK_AGAIN_S - 0.1) == {}
    assert prover.due({OTHER.peer_id: "127.0.0.1:9100"}, LOOPBACK, ASK_AGAIN_S - 0.1) == {}
    assert len(prover.due({ME.peer_id: "127.0.0.1:9101"}, LOOPBACK, ASK_AGAIN_S)) == 1


def test_one_missed_question_is_excused_and_a_lie_is_not() -> None:
    prover = Prover(RUN_ID)
    with serving(ME) as address:
        announced = {ME.peer_id: address}
        prover.ask(announced, prover.due(announced, LOOPBACK, 0.0))
    verdicts = []
    for number in (1, 2):  # nobody answers there any more
        prover.ask(announced, prover.due(announced, LOOPBACK, number * ASK_AGAIN_S))
        verdicts.append(prover.is_reachable(ME.peer_id, address))
    assert verdicts == [True, False]
    assert prover.is_reachable(ME.peer_id, "127.0.0.1:1") is None  # nobody has asked there


def test_the_page_of_proofs_signs_a_number_and_nothing_else() -> None:
    with serving(ME) as address:
        for query in (
            "",
            "?nonce=",
            "?nonce=xyz",
            f"?nonce={'ab' * 40}",
            f"?nonce={'AB' * 16}",
            "?x=1&nonce=ab",
        ):
            assert _status(f"http://{address}/proof{query}") == 400
        assert _status(f"http://{address}/proof?nonce={NONCE}") == 200
    with MetricsServer("127.0.0.1", 0, CollectorRegistry(), partial(Health, healthy=True)) as server:
        assert _status(f"http://{server.address}/proof?nonce={NONCE}") == 404


def _status(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.request.HTTPError as error:
        return error.code
