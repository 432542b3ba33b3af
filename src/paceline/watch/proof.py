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

    Guarantees:
        Nobody is asked more often than twice a minute.
    """

    def __init__(self, run_id: str) -> None:
        """Know nothing yet.

        Args:
            run_id: The run.
        """
        self._run_id = run_id
        self._asked_at: dict[str, float] = {}
        self._proven: dict[str, tuple[str, bool, int]] = {}

    def due(
        self, announced: Mapping[str, str], hosts: Mapping[str, Collection[str]], now: float
    ) -> dict[str, Place]:
        """Choose whom to ask now.

        Args:
            announced: Addresses by peer id.
            hosts: IP addresses from which each peer is connected, by peer id.
            now: Monotonic seconds.

        Returns:
            Places by peer id: of peers, and at places, that have not been asked lately.
        """
        self._forget(now)
        chosen: dict[str, Place] = {}
        for peer_id, address in announced.items():
            place = place_of(address, hosts.get(peer_id, ()))
            if place is None:
                continue
            keys = (peer_id, f"{place.host}:{place.port}")
            if all(now >= self._asked_at.get(key, float("-inf")) + ASK_AGAIN_S for key in keys):
                chosen[peer_id] = place
                self._asked_at |= dict.fromkeys(keys, now)
        return chosen

    def ask(self, announced: Mapping[str, str], places: Mapping[str, Place]) -> None:
        """Ask, all at once, and remember the outcome.

        Args:
            announced: Addresses by peer id.
            places: What `due` returned.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="proof") as pool:
            answers = pool.map(lambda peer: self._is_proven(peer, announced[peer], places[peer]), places)
            for peer_id, is_proven in zip(places, answers, strict=True):
                self._note(peer_id, announced[peer_id], is_proven)

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

    def _is_proven(self, peer_id: str, address: str, place: Place) -> bool:
        nonce = secrets.token_hex(16)
        answer = fetch(place, nonce)
        return answer is not None and is_proof(answer, peer_id, nonce, self._run_id, address)

    def _note(self, peer_id: str, address: str, is_proven: bool) -> None:
        # A busy machine may miss one answer; a second one in a row tells.
        known, was_proven, misses = self._proven.get(peer_id, ("", False, 0))
        if not is_proven and known == address and was_proven and not misses:
            self._proven[peer_id] = (address, True, 1)
        else:
            self._proven[peer_id] = (address, is_proven, 0)

    def _forget(self, now: float) -> None:
        self._asked_at = {key: at for key, at in self._asked_at.items() if now < at + ASK_AGAIN_S}
        for peer_id in list(self._proven)[:-_REMEMBERED]:
            del self._proven[peer_id]
