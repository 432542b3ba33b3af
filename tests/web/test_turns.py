"""What the observer's answers may cost, whoever asks and however often."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.exceptions import HTTPException

from paceline.watch.picture import Picture
from paceline.watch.source import ROUNDS_SHOWN
from paceline.web import turns as turns_module
from paceline.web.app import Observatory
from paceline.web.turns import MAX_OF_ASKER, MAX_WAITING, Turns
from tests.web.staged import BEGIN, Staged, opened, until


class Slow(Staged):
    """A source whose pictures of the past take until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.mutex = threading.Event(), threading.Lock()
        self.at_work = self.most_at_work = 0

    def picture(self, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        if at is None:
            return super().picture(at, rounds)
        with self.mutex:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
        self.go.wait(30)
        with self.mutex:
            self.at_work -= 1
        return super().picture(at, rounds)


def test_costly_answers_are_worked_out_one_at_a_time_and_hold_up_nothing_else() -> None:
    source = Slow()
    with opened(source) as port, ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(port.get, f"/api/picture?at={BEGIN + number}") for number in range(30)]
        until(lambda: sum(each.done() for each in asked) == 30 - MAX_WAITING)
        assert port.get("/healthz").status_code == port.get("/metrics").status_code == 200
        source.go.set()
        answers = [each.result() for each in asked]
    assert source.most_at_work == 1
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 30 - MAX_WAITING
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "2")}
    assert "try again in 2 seconds" in refused[0].json()["error"]


def test_one_asker_leaves_turns_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "PATIENCE_S", 0.1)
    turns, waiting, go = Turns(), threading.Barrier(2), threading.Event()

    def busy() -> None:
        with turns.turn("203.0.113.7"):
            waiting.wait(30)
            go.wait(30)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(busy)
        waiting.wait(30)
        turns._queue("203.0.113.7")
        assert MAX_OF_ASKER == 2
        with pytest.raises(HTTPException) as greedy, turns.turn("203.0.113.7"):
            pass
        with pytest.raises(HTTPException) as other, turns.turn("198.51.100.1"):
            pass  # it may wait, and does
        go.set()
        working.result()
    assert (greedy.value.status_code, other.value.status_code) == (429, 503)
    with turns.turn("198.51.100.1"):
        pass


def test_over_a_network_nobody_gets_more_rounds_than_the_page_shows() -> None:
    app = Observatory(Staged())
    transport = httpx.ASGITransport(app, client=("203.0.113.7", 4000))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://observer.example") as far:
            return await far.get(path)

    assert asyncio.run(ask("/api/picture")).status_code == 200
    assert asyncio.run(ask(f"/api/rounds?rounds={ROUNDS_SHOWN}")).status_code == 200
    answer = asyncio.run(ask("/api/rounds?rounds=1000"))
    assert (answer.status_code, answer.json()["error"][:42]) == (
        400,
        "rounds must be a number from 1 to 200, not",
    )


def test_a_turn_is_given_back_when_the_work_fails() -> None:
    turns = Turns()
    for _ in range(MAX_WAITING + 1):
        with pytest.raises(ValueError, match="no"), turns.turn("203.0.113.7"):
            raise ValueError("no")
    began = time.monotonic()
    with turns.turn("203.0.113.7"):
        assert time.monotonic() - began < 1
