"""Asking peers to prove that they serve the metrics address that they announce.

A heartbeat may name any address: another peer's, or a port of a machine that has nothing to do with the
swarm. So nobody is asked anywhere but at the host from which it is itself connected with the monitor, and
seldom: the monitor must not knock at strangers' doors because somebody says so. And what answers is not
believed, but checked (`paceline.core.proof`).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from paceline.core.proof import is_proof

ASK_AGAIN_S = 30.0
"""No peer, and no address, is asked more often."""
LIMIT_S = 2.0
"""So long may an answer take altogether."""
MAX_ANSWER_BYTES = 4096
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15}|localhost)):(\d{1,5})")
_AT_ONCE = 8
_REMEMBERED = 1024


@dataclass(frozen=True)
class Place:
    """Where to ask.

    Attributes:
        host: An IP address.
        port: A TCP port.
    """

    host: str
    port: int


def place_of(address: str, hosts: Collection[str]) -> Place | None:
    """Decide whether a peer may be asked where it says to be.

    Args:
        address: `host:port` as announced; anything.
        hosts: IP addresses from which that peer is connected here.

    Returns:
        The place; None unless it is one of those hosts, or both are loopback.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    host, port = found[1] or found[2], int(found[3])
    try:
        announced = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        connected = [ipaddress.ip_address(host) for host in hosts]
    except ValueError:
        return None
    is_its_own = announced in connected or (
        announced.is_loopback and any(connection.is_loopback for connection in connected)
    )
    return Place(str(announced), port) if is_its_own and 0 < port < 65536 else None


def fetch(place: Place, nonce: str, limit_s: float = LIMIT_S) -> bytes | None:
    """Ask for a proof.

    Guarantees:
        However slowly the answer drips, it is waited for no longer than its limit.
        No more than a few kilobytes are read of an answer.
        A redirect is not followed.

    Args:
        place: Where.
        nonce: Hexadecimal digits to be signed.
        limit_s: How long it may take altogether, in seconds.

    Returns:
        The body of an answer with status 200; None for everything else.
    """
    deadline = time.monotonic() + limit_s
    host = f"[{place.host}]" if ":" in place.host else place.host
    request = f"GET /proof?nonce={nonce} HTTP/1.0\r\nHost: {host}:{place.port}\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with socket.create_connection((place.host, place.port), limit_s) as connection:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            connection.sendall(request.encode())
            while len(answer) <= MAX_ANSWER_BYTES:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                piece = connection.recv(MAX_ANSWER_BYTES)
                if not piece:
                    break
                answer += piece
                if time.monotonic() >= deadline:
                    return None
    except OSError:
        return None
    head, end, body = answer.partition(b"\r\n\r\n")
    is_good = re.match(rb"HTTP/1\.[01] 200 ", head) is not None
    return body if is_good and end and len(answer) <= MAX_ANSWER_BYTES else None


class Prover:
    """Keeps track of who has proven what, and asks whoever is due.

    One question at a place decides about all who announce it, so nobody can keep another from being asked.

    Guarantees:
        Nobody is asked more often than twice a minute.
    """

    def __init__(self, run_id: str) -> None:
        """Know nothing yet.

        Args:
            run_id: The run.
        """
        self._run_id = run_id
        self._asked_at: dict[str | Place, float] = {}
        self._proven: dict[str, tuple[str, bool, int]] = {}

    def due(
        self, announced: Mapping[str, str], hosts: Mapping[str, Collection[str]], now: float
    ) -> dict[Place, list[str]]:
        """Choose where to ask now.

        Args:
            announced: Addresses by peer id.
            hosts: IP addresses from which each peer is connected, by peer id.
            now: Monotonic seconds.

        Returns:
            For each place, who announces it: peers, and places, that have not been asked lately.
        """
        self._asked_at = {key: at for key, at in self._asked_at.items() if now < at + ASK_AGAIN_S}
        chosen: dict[Place, list[str]] = {}
        for peer_id, address in announced.items():
            place = place_of(address, hosts.get(peer_id, ()))
            if place is not None and place not in self._asked_at and peer_id not in self._asked_at:
                chosen.setdefault(place, []).append(peer_id)
        for place, peers in chosen.items():
            self._asked_at |= dict.fromkeys([place, *peers], now)
        return chosen

    def ask(self, announced: Mapping[str, str], places: Mapping[Place, Collection[str]]) -> None:
        """Ask everywhere at once, and remember the outcome.

        Args:
            announced: Addresses by peer id.
            places: What `due` returned.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="proof") as pool:
            nonces = [secrets.token_hex(16) for _ in places]
            for place, nonce, answer in zip(places, nonces, pool.map(fetch, places, nonces), strict=True):
                for peer_id in places[place]:
                    self._judge(peer_id, announced[peer_id], nonce, answer)

    def is_reachable(self, peer_id: str, address: str) -> bool | None:
        """Tell what is known.

        Args:
            peer_id: Who.
            address: What it announces now.

        Returns:
            Whether it has proven to serve that address; None when it was not asked for it.
        """
        known, is_proven, _ = self._proven.get(peer_id, ("", False, 0))
        return is_proven if known == address and address else None

    def _judge(self, peer_id: str, address: str, nonce: str, answer: bytes | None) -> None:
        is_proven = answer is not None and is_proof(answer, peer_id, nonce, self._run_id, address)
        known, was_proven, misses = self._proven.pop(peer_id, ("", False, 0))
        # A busy machine may miss one question; a second one in a row tells. The latest stay last.
        is_excused = answer is None and known == address and was_proven and not misses
        self._proven[peer_id] = (address, is_proven or is_excused, int(is_excused))
        for forgotten in list(self._proven)[:-_REMEMBERED]:
            del self._proven[forgotten]
