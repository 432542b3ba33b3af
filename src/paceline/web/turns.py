"""Turns at what is costly to work out: one at a time, few in the queue, and one asker can't take all of them.

Usage:
    with turns.turn("203.0.113.7"):
        picture = source.picture(at, rounds)
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException

from paceline.telemetry.server import is_loopback

MAX_WAITING = 8
"""So many askers are served or wait at once; a thread of the server's pool of 40 is taken by each."""
MAX_OF_ASKER = 2
"""So many of them may come from one address; loopback has no such limit: a proxy may stand for many."""
PATIENCE_S = 5.0
"""Whoever has waited for so long is asked to come again."""
AGAIN_S = 2
"""After so many seconds."""
_AGAIN = f"{{}}; try again in {AGAIN_S} seconds."
_HEADERS = {"retry-after": str(AGAIN_S)}


class Turns:
    """Hands out turns.

    Guarantees:
        Costly answers are worked out one at a time and hold up nothing else.
        One asker leaves turns for the others.
        A turn is given back when the work fails.
    """

    def __init__(self) -> None:
        self._mutex, self._working = threading.Lock(), threading.Lock()
        self._askers: Counter[str] = Counter()

    @contextmanager
    def turn(self, asker: str) -> Iterator[None]:
        """Wait for a turn, and have it while the block lasts.

        Args:
            asker: Its IP address.

        Yields:
            Nothing.

        Raises:
            HTTPException: 429 when the asker has enough turns already, 503 when others take all of them.
        """
        self._queue(asker)
        try:
            if not self._working.acquire(timeout=PATIENCE_S):
                raise HTTPException(503, _AGAIN.format("Others ask for much"), _HEADERS)
            try:
                yield
            finally:
                self._working.release()
        finally:
            with self._mutex:
                self._askers[asker] -= 1
                if not self._askers[asker]:
                    del self._askers[asker]

    def _queue(self, asker: str) -> None:
        with self._mutex:
            if self._askers[asker] >= MAX_OF_ASKER and not is_loopback(asker):
                raise HTTPException(
                    429, _AGAIN.format("Your earlier questions are not answered yet"), _HEADERS
                )
            if self._askers.total() >= MAX_WAITING:
                raise HTTPException(503, _AGAIN.format("Others ask for much"), _HEADERS)
            self._askers[asker] += 1
