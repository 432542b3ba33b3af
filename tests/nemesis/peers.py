"""One peer of a swarm that is hurt: its process tree, its files, and what it told, with the times."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from paceline.core.events import Event, PeerStarted, RoundCommitted, StateFetched
from paceline.peer.child import Child
from paceline.peer.folders import StateFolder
from paceline.peer.tail import EventTail, Told
from tests.nemesis import processes

E = TypeVar("E", bound=Event)


class Peer:
    """A peer that may be started, hurt and started again with the same command.

    Attributes:
        name: What people call it.
        state: Its files.
        told: All that it has told so far, as of the last `listen`.
        argv: How it is started.
    """

    def __init__(self, name: str, state: StateFolder, argv: Sequence[str], *, supervised: bool) -> None:
        self.name, self.state, self.argv = name, state, tuple(argv)
        self.told: list[Told] = []
        self._by_kind: dict[type[Event], list[Told]] = {}
        self._supervised = supervised
        # Not in the state folder: a peer whose disk is full must still be heard.
        self._output = state.path.parent / "printed" / f"{name}.txt"
        self._tail = EventTail(state.events)
        self._child: Child | None = None

    def start(self) -> None:
        assert not self.runs, f"{self.name} still runs"
        self._child = Child(self.name, self.argv, self._output)

    @property
    def runs(self) -> bool:
        """Whether the process that was started is there."""
        return self._child is not None and self._child.exit_code() is None

    @property
    def exit_code(self) -> int | None:
        return self._child.exit_code() if self._child else None

    @property
    def top(self) -> int:
        """The process that was started: the supervisor, if there is one."""
        assert self._child is not None
        return self._child.pid

    @property
    def main(self) -> int | None:
        """The process that trains; None while a supervisor has none."""
        if not self._supervised:
            return self.top if self.runs else None
        return next(iter(processes.children(self.top)), None)

    def family(self) -> set[int]:
        return processes.family(self.top)

    def send(self, sent: signal.Signals) -> None:
        """Send a signal to every process of this peer."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, sent)

    def kill(self) -> None:
        """SIGKILL to the process that was started; the kernel must take along the others."""
        if self._child is not None:
            self._child.kill()

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(timeout_s=30)

    def leave(self) -> None:
        if self._child is not None:
            self._child.ask_to_leave()

    def listen(self) -> list[Told]:
        """Read what it told since the last time."""
        news = self._tail.read()
        self.told += news
        for told in news:
            self._by_kind.setdefault(type(told.event), []).append(told)
        return news

    def forget(self) -> None:
        """Drop what it told so far."""
        self.listen()
        self.told.clear()
        self._by_kind.clear()

    def events(self, kind: type[E], since: float = 0.0) -> list[E]:
        return [told.event for told in self._of(kind, since) if isinstance(told.event, kind)]

    def when(self, kind: type[Event], since: float = 0.0) -> list[float]:
        """When it told facts of a kind."""
        return [told.time for told in self._of(kind, since)]

    def _of(self, kind: type[Event], since: float) -> list[Told]:
        # A peer tells of every step; looking for something rare must not mean looking at all of them.
        self.listen()
        return [told for told in self._by_kind.get(kind, ()) if told.time >= since]

    @property
    def height(self) -> int:
        """The last round that it stood on, in any of its lives."""
        committed = [event.round_id for event in self.events(RoundCommitted)]
        fetched = [event.round_id for event in self.events(StateFetched)]
        return max([*committed, *fetched], default=0)

    @property
    def peer_id(self) -> str:
        started = self.events(PeerStarted)
        return started[0].peer_id if started else ""

    def printed(self) -> str:
        """What its processes printed, in all its lives."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""
