"""How a peer's process does, as its supervisor can tell from outside: by its events and its `/healthz`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from paceline.core.events import PeerStarted, RoundCommitted
from paceline.peer.tail import EventTail

_HANGS = "the worker hangs"
_SILENT = "it does not answer"
_ASK_EVERY_S = 30.0
_ANSWER_S = 3.0
_MOST_BYTES = 65536
PATIENCE_S = 600.0
"""A peer that has hung for so long is not coming back: a slow disk or a long evaluation would have ended."""


class Pulse:
    """Watches one life of a peer.

    Guarantees:
        A peer that has never answered is not taken for hung.

    Attributes:
        committed: Whether it has committed a round in this life.
    """

    def __init__(self, events: Path, host: str, now: float, patience_s: float | None = None) -> None:
        """Begin to watch, before the peer starts.

        Args:
            events: The peer's event file.
            host: Address that its metrics are bound to.
            now: Monotonic seconds.
            patience_s: How long it may hang; `PATIENCE_S` when left out.
        """
        self.committed = False
        self._tail = EventTail(events)
        self._tail.skip()
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._port = 0
        self._answered = False
        self._asked_at = self._well_at = now
        self._complaint = ""

    def hung(self, now: float) -> str:
        """Take in the news, and now and then ask the peer how it does.

        Args:
            now: Monotonic seconds.

        Returns:
            What is wrong when it has been so for too long; empty otherwise.
        """
        for told in self._tail.read():
            match told.event:
                case PeerStarted(metrics_address=address):
                    self._port = int(address.rpartition(":")[2])
                case RoundCommitted():
                    self.committed = True
        if self._port and now >= self._asked_at + min(_ASK_EVERY_S, self._patience_s / 4):
            self._asked_at = now
            self._note(complaint_of(self._host, self._port), now)
        return self._complaint if now >= self._well_at + self._patience_s else ""

    def _note(self, complaint: str | None, now: float) -> None:
        if complaint is None:
            # Nobody listens, or the peer is stopped: it counts only where an answer once came through.
            complaint = _SILENT if self._answered else ""
        else:
            self._answered = True
        self._complaint = complaint
        if not complaint:
            self._well_at = now


def complaint_of(host: str, port: int) -> str | None:
    """Ask a peer's `/healthz` whether it hangs.

    Args:
        host: Its address.
        port: Its port.

    Returns:
        What it complains of; empty when it does not hang; None when there was no answer.
    """
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = b""
            while len(answer) < _MOST_BYTES and (more := connection.recv(4096)):
                answer += more
        cause = json.loads(answer.partition(b"\r\n\r\n")[2])["cause"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _HANGS if cause == _HANGS else ""
