"""The stream of pictures: who gets which, what it costs, and that whoever leaves is gone."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from paceline.core.errors import ProcessDied
from paceline.watch.picture import Picture
from paceline.web import feed as feed_module
from paceline.web.feed import INTERVAL_S, MAX_READERS
from tests.web.staged import HOSTILE, Port, opened, peer, picture, until


class Reader:
    """One who reads `/events`."""

    def __init__(self, port: Port) -> None:
        self._connection = http.client.HTTPConnection(port.address, timeout=60)
        self._connection.request("GET", "/events")
        self.answer = self._connection.getresponse()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def lines(self) -> Iterator[str]:
        for line in iter(self.answer.readline, b""):
            yield line.decode().rstrip("\n")

    def next(self) -> tuple[str, str]:
        """Wait for an event: its name and its data."""
        name = ""
        for line in self.lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                return name, line[6:]
        return "", ""

    def height(self) -> int:
        name, data = self.next()
        assert name == "picture"
        return Picture.model_validate_json(data).rounds_committed


@pytest.fixture
def port() -> Iterator[Port]:
    with opened() as served:
        yield served


def test_a_reader_gets_the_latest_picture_at_once_and_then_each_new_one(port: Port) -> None:
    with Reader(port) as reader:
        assert reader.answer.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert reader.answer.getheader("cache-control") == "no-store"
        assert reader.height() == 2
        port.source.show(picture(rounds_committed=3))
        assert reader.height() == 3
        port.source.show(picture(rounds_committed=4))
        assert reader.height() == 4
        with Reader(port) as late:
            assert late.height() == 4


def test_what_peers_say_stays_within_its_event(port: Port) -> None:
    port.source.show(picture(peers=(peer(nickname=HOSTILE + "\r\n\r\nevent: ended\ndata: {}"),)))
    with Reader(port) as reader:
        name, data = reader.next()
        assert name == "picture"
        assert Picture.model_validate_json(data).peers[0].nickname.startswith(HOSTILE)
        port.source.show(picture(rounds_committed=9))
        assert reader.height() == 9


def test_pictures_come_no_more_than_twice_a_second_however_much_happens(port: Port) -> None:
    is_over = threading.Event()

    def hurry() -> None:
        for height in range(3, 10_000):
            port.source.show(picture(rounds_committed=height))
            if is_over.wait(0.001):
                return

    thread = threading.Thread(target=hurry)
    with Reader(port) as reader:
        assert reader.height() == 2
        thread.start()
        began = time.monotonic()
        heights = [reader.height() for _ in range(5)]
        took = time.monotonic() - began
        is_over.set()
        thread.join()
    assert heights == sorted(set(heights))
    assert took > 3 * INTERVAL_S  # the first of the five may come at once, and another a moment too early


def test_nobodys_stream_costs_the_others_a_second_look(port: Port) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(port)) for _ in range(20)]
        assert {reader.height() for reader in readers} == {2}
        asked = len(port.source.asked)
        port.source.show(picture(rounds_committed=3))
        assert {reader.height() for reader in readers} == {3}
        assert len(port.source.asked) == asked + 1


def test_a_reader_that_leaves_takes_its_stream_along(port: Port) -> None:
    with Reader(port) as reader:
        reader.next()
    until(lambda: port.app.feed.num_readers == 0)
    until(lambda: not asking())
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(Reader(port)).next()
            assert port.app.feed.num_readers == 10
        until(lambda: port.app.feed.num_readers == 0)
    until(lambda: not asking())
    asked = len(port.source.asked)
    port.source.show(picture(rounds_committed=5))
    with Reader(port) as reader:
        assert reader.height() == 5  # and not what the others saw last
    assert len(port.source.asked) == asked + 1


def asking() -> list[str]:
    """Threads that wait for news."""
    return [thread.name for thread in threading.enumerate() if waits(thread)]


def waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "changed":
            return True
        frame = frame.f_back
    return False


def test_beyond_the_limit_a_reader_is_told_to_come_back(port: Port) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(Reader(port))
        for _ in range(MAX_READERS - 1):
            stack.enter_context(Reader(port))
        with Reader(port) as late:
            assert late.answer.status == 503
            assert late.answer.getheader("retry-after") == "5"
            assert "others look already" in json.loads(late.answer.read())["error"]
        assert first.height() == 2
        assert port.get("/api/picture").status_code == 200  # the others have places of their own
    until(lambda: port.app.feed.num_readers == 0)
    with Reader(port) as again:
        assert again.height() == 2


def test_a_quiet_stream_still_says_that_it_is_there(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT_S", 0.1)
    with Reader(port) as reader:
        reader.next()
        lines = reader.lines()
        assert ": still here" in [next(lines) for _ in range(4)]


def test_a_reader_that_takes_nothing_is_hung_up_on(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "STALLED_S", 0.3)
    monkeypatch.setattr(feed_module, "INTERVAL_S", 0.01)
    large = "x" * 1_000_000
    with Reader(port) as stalled:
        for height in range(3, 60):
            if not port.app.feed.num_readers and height > 3:
                break
            shown = len(port.source.asked)
            port.source.show(picture(rounds_committed=height, notice=large, coordinator=large))
            until(lambda shown=shown: len(port.source.asked) > shown or not port.app.feed.num_readers)
        until(lambda: port.app.feed.num_readers == 0)
        assert stalled.answer.status == 200


def test_the_end_of_the_watch_is_told_and_ends_the_streams(port: Port) -> None:
    with Reader(port) as reader:
        assert reader.height() == 2
        port.source.fail(ProcessDied("DHT"))
        name, data = reader.next()
        assert name == "ended"
        assert "DHT process died" in json.loads(data)["error"]
        assert reader.next() == ("", "")  # the stream is over
    with Reader(port) as late:
        assert late.next()[0] == "ended"


def test_an_error_inside_ends_the_streams_too(port: Port) -> None:
    with Reader(port) as reader:
        reader.next()
        port.source.fail(RuntimeError("secret"))
        name, data = reader.next()
        assert name == "ended"
        assert "secret" not in data


def test_open_streams_do_not_hold_up_the_end() -> None:
    with ExitStack() as stack:
        with opened() as port:
            readers = [stack.enter_context(Reader(port)) for _ in range(5)]
            assert {reader.height() for reader in readers} == {2}
        assert [reader.next() for reader in readers] == [("", "")] * 5
