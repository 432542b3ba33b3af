"""How far a federated run is: shown on standard error, and only when it takes longer than two seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate
from paceline.federation.provider import UpdateProvider, hand_on

PATIENCE_S = 2.0
"""Nothing is shown before; elsewhere than on a terminal, a line each time so much has passed again."""


class Rounds:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(
        self, total: int, screen: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; nothing is shown yet.

        Args:
            total: How many rounds there will be.
            screen: Where to; standard error when left out.
            clock: Monotonic seconds.
        """
        self._total, self._clock, self._told_at = total, clock, clock()
        self._screen = screen or Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._screen, transient=True)
        self._task = self._bar.add_task("rounds", total=total)
        # A thread of its own, lest a long first round leave everybody in the dark.
        self._timer = threading.Timer(PATIENCE_S, self.show)
        self._timer.daemon = True

    def __enter__(self) -> Rounds:
        if self._screen.is_terminal:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen.is_terminal:
            self._timer.cancel()
            self._timer.join()
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self) -> None:
        """Show the bar from now on; happens by itself when it is time."""
        self._bar.start()

    def done(self, round_id: int, loss: float) -> None:
        """Note that a round is over.

        Args:
            round_id: Which.
            loss: Its average loss.
        """
        self._bar.update(self._task, completed=round_id)
        now = self._clock()
        if not self._screen.is_terminal and now >= self._told_at + PATIENCE_S:
            self._told_at = now
            self._screen.print(f"round {round_id} of {self._total}: loss {loss:.6g}")


class Watched(UpdateProvider):
    """Another provider, which ends the training when people ask for it and tells how far it is."""

    def __init__(self, provider: UpdateProvider, rounds: Rounds, stop_asked: Callable[[], bool]) -> None:
        """Stand before another provider.

        Args:
            provider: The other one.
            rounds: Told of each round that is over.
            stop_asked: Whether people want to stop.
        """
        self._provider, self._rounds, self._stop_asked = provider, rounds, stop_asked

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Ask the other provider, unless it is time to leave.

        Args:
            round_id: The round.
            state: The state before it.
            nodes: The nodes.

        Returns:
            Its updates; none when people want to stop.
        """
        return [] if self._stop_asked() else self._provider.get_updates(round_id, state, nodes)

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Hand a state on, and tell that its round is over.

        Args:
            state: The state after the round.
            nodes: The nodes that it is meant for.
        """
        hand_on(self._provider, state, nodes)
        self._rounds.done(state.round_id, state.avg_loss)
