"""The live view of a local run: a picture redrawn in place on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live

from paceline.cli.drawing import draw, round_line
from paceline.cli.progress import Progress
from paceline.cli.screen import clock
from paceline.core import events
from paceline.core.events import Event
from paceline.core.nicknames import named, nickname
from paceline.telemetry import describe

_LAST_LINES = 6
_ONCE = (
    *(events.AttemptVoided, events.CoordinatorChanged, events.DriftDetected, events.QuorumMissing),
    *(events.RepairFailed, events.RoundStalled, events.StateFetched, events.StepSkipped),
    events.WentBackToAnchor,
)


class View(Protocol):
    """Shows a run while it goes."""

    def __enter__(self) -> View: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, line: str) -> None:
        """Show something that happened.

        Args:
            line: One sentence.
        """

    def refresh(self, progress: Progress) -> None:
        """Show how the run stands.

        Args:
            progress: How it stands.
        """


def view_on(console: Console, began: float) -> View:
    """Choose the view that a console can show.

    Args:
        console: Where to.
        began: When the run began, on `time.monotonic`.

    Returns:
        A picture for a terminal, lines for anything else.
    """
    if console.is_terminal and not console.is_dumb_terminal:
        return Picture(console, began)
    return Lines(console, began)


class Lines:
    """A line per committed round, and one for whatever else is worth telling."""

    def __init__(self, console: Console, began: float) -> None:
        self._console, self._began = console, began
        self._told_round = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, line: str) -> None:
        """Print a line.

        Args:
            line: One sentence.
        """
        self._console.print(f"{clock(time.monotonic() - self._began):>7}  {line}", markup=False)

    def refresh(self, progress: Progress) -> None:
        """Print the rounds committed since the last call.

        Args:
            progress: How the run stands.
        """
        while (round_id := self._told_round + 1) <= progress.rounds_committed:
            measured = round_id in progress.val_losses or round_id < progress.rounds_committed
            if not measured and progress.val_losses:
                return  # its evaluation comes within a moment
            self._told_round = round_id
            self.say(round_line(progress, round_id))


class Picture:
    """One picture of the run, redrawn in place."""

    def __init__(self, console: Console, began: float) -> None:
        self._began = began
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Add a line below the picture; the last few stay.

        Args:
            line: One sentence.
        """
        self._lines.append(f"{clock(time.monotonic() - self._began):>7}  {line}")

    def refresh(self, progress: Progress) -> None:
        """Redraw.

        Args:
            progress: How the run stands.
        """
        picture = draw(progress, time.monotonic() - self._began, list(self._lines))
        self._live.update(picture, refresh=True)


class Telling:
    """Chooses which events become lines, and tells what several peers report only once."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._ids: dict[str, str] = {}

    def line(self, name: str, event: Event) -> str:
        """Choose the line for an event.

        Args:
            name: Whose.
            event: What happened.

        Returns:
            The line, or "" for what the view shows anyway or has told already.
        """
        if isinstance(event, events.PeerStarted):
            self._ids[name] = event.peer_id
            return f"{name}: {describe(event)}"
        who = self._called(name)
        if isinstance(event, events.PeerRestarting):
            return f"{who} {describe(event)}"
        if isinstance(event, events.PeerStopped):
            return f"{who}: {describe(event)}"
        failed = isinstance(event, events.ReduceEnded) and not event.complete
        if not failed and not isinstance(event, _ONCE):
            return ""
        text, once = f"{who}: {describe(event)}", describe(event)
        if isinstance(event, events.CoordinatorChanged):
            here = [name for name, peer_id in self._ids.items() if peer_id == event.coordinator]
            front = self._called(here[0]) if here else named(event.coordinator)
            text = once = f"{front} is at the front in term {event.term}"
        if once in self._told:
            return ""
        self._told.add(once)
        return text

    def _called(self, name: str) -> str:
        return f"{name} {nickname(self._ids[name])}" if name in self._ids else name
