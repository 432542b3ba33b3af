"""A source of pictures that tests turn as they like, and an observer's port over it on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from paceline.core.config import RunConfig
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.watch.source import ROUNDS_SHOWN
from paceline.web.app import Observatory
from paceline.web.server import WebServer
from tests.core.history import peers

BEGIN = 1_760_000_000.0
IDS = [key.peer_id for key in peers(4)]
HOSTILE = "<script>alert('x')</script>\"\\\n\x00\x1b[31m\u2028"
"""What a peer may say where it may say anything."""


def peer(number: int = 0, **fields: object) -> PeerView:
    """A peer that trains and has proven its address."""
    known: dict[str, object] = {
        "peer_id": IDS[number],
        "nickname": f"able-lark-{number}",
        "standing": "train",
        "round_id": 3,
        "inner_step": 10,
        "samples": 80,
        "samples_per_s": 4.0,
        "tokens_per_s": 512.0,
        "metrics_address": f"127.0.0.1:{9100 + number}",
        "is_reachable": True,
        "seen_s": 0.5,
    }
    return PeerView.model_validate(known | fields)


def picture(**fields: object) -> Picture:
    """A swarm of four peers that has committed two rounds, ten seconds apart."""
    commits = [
        RoundView(
            round_id=number, committed_at=BEGIN + 10 * number, avg_loss=3.0 / number, members=tuple(IDS)
        )
        for number in (1, 2)
    ]
    known: dict[str, object] = {
        "run_id": "demo-1a2b3c4d",
        "at": BEGIN + 25,
        "is_live": True,
        "rounds_planned": 10,
        "inner_steps": 20,
        "tokens_per_sample": 128,
        "parameters": 1000,
        "lease_s": 8.0,
        "peers": tuple(peer(number) for number in range(4)),
        "rounds": (*commits, RoundView(round_id=3)),
        "rounds_committed": 2,
        "last_commit_at": BEGIN + 20,
        "quorum_needed": 3,
        "quorum_here": 4,
    }
    return Picture.model_validate(known | fields)


class Staged:
    """Shows what it is told to show.

    Attributes:
        shown: The picture.
        failure: Raised instead of showing it, when set.
        asked: The moments asked for.
    """

    def __init__(self, shown: Picture | None = None) -> None:
        self.run = RunConfig(name="demo")
        self.begin = BEGIN
        self.asked: list[float | None] = []
        self.failure: Exception | None = None
        self._shown = shown or picture()
        self._version = 1
        self._news = threading.Condition()

    @property
    def is_live(self) -> bool:
        return self._shown.is_live

    @property
    def end(self) -> float:
        return self._shown.at

    @property
    def shown(self) -> Picture:
        return self._shown

    def show(self, shown: Picture) -> None:
        with self._news:
            self._shown = shown
            self._version += 1
            self._news.notify_all()

    def fail(self, failure: Exception) -> None:
        with self._news:
            self.failure = failure
            self._news.notify_all()

    def picture(self, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        if self.failure is not None:
            raise self.failure
        self.asked.append(at)
        shown = self._shown
        if at is not None:
            shown = shown.model_copy(update={"at": min(max(at, self.begin), self.end)})
        kept = shown.rounds if rounds is None else shown.rounds[-rounds:]
        return shown.model_copy(update={"rounds": kept})

    def changed(self, after: int, timeout_s: float) -> int:
        with self._news:
            self._news.wait_for(lambda: self._version > after or self.failure is not None, timeout_s)
            if self.failure is not None:
                raise self.failure
            return self._version


class Port:
    """An observer's port over a staged source."""

    def __init__(self, source: Staged, app: Observatory, server: WebServer) -> None:
        self.source, self.app, self.server, self.address = source, app, server, server.address
        self.client = httpx.Client(
            base_url=f"http://{server.address}", timeout=60, verify=False, trust_env=False
        )

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)


@contextmanager
def opened(source: Staged | None = None) -> Iterator[Port]:
    """Serve a staged source on loopback."""
    source = source or Staged()
    app = Observatory(source)
    with WebServer("127.0.0.1", 0, app) as server:
        port = Port(source, app, server)
        with port.client:
            yield port


def until(condition: object, limit_s: float = 30.0) -> None:
    """Wait until something is so."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
