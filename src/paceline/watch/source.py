"""Where pictures come from: a live swarm (`Watcher`), or what is left of one (`Replay`).

def height(source: Source) -> int:
    return source.picture().rounds_committed
"""

from __future__ import annotations

from typing import Protocol

from paceline.core.config import RunConfig
from paceline.watch.picture import Picture

ROUNDS_SHOWN = 200
"""So many of the latest rounds are in a picture unless more are asked for."""


class Source(Protocol):
    """Gives pictures of one run. All of it may be called from any thread, at once.

    Attributes:
        run: The run's parameters.
        is_live: Whether more may happen.
    """

    @property
    def run(self) -> RunConfig:
        """The run's parameters."""

    @property
    def is_live(self) -> bool:
        """Whether more may happen; False for a replay."""

    @property
    def begin(self) -> float:
        """The first moment that there is a picture of, in seconds since 1970."""

    @property
    def end(self) -> float:
        """The last such moment; of a live run the present one."""

    def picture(self, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        """Tell how the swarm stands, or stood.

        Args:
            at: The moment, in seconds since 1970; the last one when left out. What lies outside `begin` and
                `end` is moved to the nearer of them.
            rounds: How many of the latest rounds to show, the one in progress included; None for all that are
                known. Spans are shown of the latest five.

        Returns:
            The picture.

        Raises:
            PacelineError: The watch has ended: this peer's network daemon died, say.
        """

    def changed(self, after: int, timeout_s: float) -> int:
        """Wait for news.

        Args:
            after: The version that the caller has seen; 0 at first.
            timeout_s: How long to wait at most, in seconds. A replay never changes and waits all of it.

        Returns:
            The present version: larger than `after` when there is news, else `after`.

        Raises:
            PacelineError: The watch has ended.
        """
