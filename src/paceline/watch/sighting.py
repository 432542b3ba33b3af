"""The watch's own connection with a swarm, opened again whenever it has died.

A watch is blind while its network process, or the daemon below, is gone or does not answer. Then nothing is
known of the swarm, and nobody may be taken for lost.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import JoinError, ProcessDied
from paceline.network.board import READ_TIMEOUT_S, Board, Posted
from paceline.network.lookout import Lookout
from paceline.peer.observer import looking_out

SILENT_S = 6.0
"""A board that was not read for so long is not seen: a look takes 4 s at most, and they are 1 s apart."""
_MOST_SILENT_LOOKS = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


class Sighting:
    """A connection with a swarm. One thread at a time may open and read; any may ask whether it is blind.

    Guarantees:
        A connection that can't be opened is tried again with growing patience.

    Attributes:
        lookout: Its view of the network.
        board: The run's board.
        run: The run's parameters.
        has_seen: Whether the last look was answered.
        read_at: When the board was last seen, in seconds since 1970: for whoever looks to set.
        cause: Why it is cut off; empty while it is not.
    """

    def __init__(self, target: Handout | str) -> None:
        """Note whom to watch; nothing is opened yet.

        Args:
            target: The run's hand-out, or the multiaddr of any of its peers.
        """
        self.lookout: Lookout
        self.board: Board
        self.run: RunConfig
        self.read_at = time.time()
        self.cause, self.has_seen = "", False
        self._target = target
        self._stack = ExitStack()
        self._silent_looks = 0
        self._wait_s, self._not_before = _FIRST_WAIT_S, float("-inf")

    def open(self, also: Sequence[str], run: RunConfig | None = None) -> None:
        """Connect. It forks: the thread that calls this must live as long as the connection.

        Args:
            also: Other addresses to try when none of the target's answers.
            run: The run's parameters where they are known.

        Raises:
            JoinError: The swarm could not be reached, or trains another run.
        """
        with ExitStack() as stack:
            self.lookout, self.board, self.run = stack.enter_context(looking_out(self._target, also, run))
            self._stack = stack.pop_all()
        self._silent_looks, self.cause = 0, ""

    def close(self) -> None:
        """Hang up."""
        self._stack.close()

    def blind_since(self, now: float, lease_s: float) -> float | None:
        """Tell whether the watch sees nothing itself.

        Args:
            now: Seconds since 1970.
            lease_s: A peer that is silent for so long is lost.

        Returns:
            Since when, in seconds since 1970; None while it sees.
        """
        is_blind = bool(self.cause) or now > self.read_at + min(SILENT_S, lease_s)
        return self.read_at if is_blind else None

    def look(self, kinds: Collection[str]) -> list[Posted]:
        """Read the board.

        Args:
            kinds: Which kinds of record to look for.

        Returns:
            What is new.

        Raises:
            ProcessDied: The network's process is gone, or has not answered for several looks.
        """
        began = time.monotonic()
        posted = self.board.read(kinds)
        if time.monotonic() < began + READ_TIMEOUT_S:
            self._silent_looks, self._wait_s, self.has_seen = 0, _FIRST_WAIT_S, True
        else:
            self._silent_looks, self.has_seen = self._silent_looks + 1, False
            if self._silent_looks >= _MOST_SILENT_LOOKS:
                raise ProcessDied("DHT")
        return posted

    def lose(self, error: ProcessDied) -> float:
        """Give the connection up.

        Args:
            error: How it ended.

        Returns:
            After how many seconds it is opened again.
        """
        self.cause = error.cause
        self.close()
        return self._put_off()

    def regain(self, also: Sequence[str], now: float) -> bool:
        """Open it again, when it is time.

        Args:
            also: Other addresses to try when none of the target's answers.
            now: Monotonic seconds.

        Returns:
            Whether it is open.
        """
        if now < self._not_before:
            return False
        try:
            self.open(also, self.run)
        except JoinError as error:
            self.cause = error.cause
            self._put_off()
            return False
        return True

    def _put_off(self) -> float:
        wait_s = self._wait_s
        self._not_before = time.monotonic() + wait_s
        self._wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return wait_s
