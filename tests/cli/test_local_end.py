"""Claims about how `paceline up` brings a run to its end."""

from __future__ import annotations

import time

import pytest

from paceline.cli.local import _End
from paceline.cli.progress import Progress, Rider
from paceline.cli.stopping import Stopping
from paceline.core.config import RunConfig


class Spy:
    """Swarm and view at once, and the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.done = 0.0, list[str]()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.progress = Progress(RunConfig(name="it"), {name: Rider(name) for name in ("a", "b", "c")})
        self.stopping = Stopping()
        self.end = _End(self, self)  # type: ignore[arg-type]

    def say(self, line: str) -> None:
        self.done.append(line)

    def ask_to_leave(self) -> None:
        self.done.append("ask")

    def kill(self) -> None:
        self.done.append("kill")

    def finish(self, name: str) -> None:
        self.progress.riders[name] = Rider(name, finished=True)
        self.progress.end(name, "")

    def at(self, now: float) -> list[str]:
        self.now, self.done = now, []
        self.end.hasten(self.progress, self.stopping)
        return self.done


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def test_peers_that_come_too_late_to_finish_are_asked_to_leave_and_then_ended(spy: Spy) -> None:
    assert spy.at(1000.0) == []
    spy.finish("a")
    assert spy.at(1001.0) == []
    spy.finish("b")
    assert spy.at(1030.0) == []
    assert spy.at(1059.0) == []
    assert spy.at(1061.0) == ["the run is finished; the peers that came too late are asked to leave", "ask"]
    assert spy.at(1080.0) == []
    assert spy.at(1082.0) == ["kill"]


def test_a_peer_that_failed_for_good_hurries_nobody(spy: Spy) -> None:
    spy.progress.end("a", "the disk is full")
    assert spy.at(1.0) == spy.at(1000.0) == []


def test_peers_are_asked_once_and_ended_when_they_do_not_leave(spy: Spy) -> None:
    spy.stopping.asked = True
    assert spy.at(1.0) == ["the peers are asked to leave; Ctrl-C again ends them at once", "ask"]
    assert spy.at(2.0) == []
    assert spy.at(22.0) == ["kill"]
