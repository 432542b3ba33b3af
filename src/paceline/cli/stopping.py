"""Ctrl-C and SIGTERM: the first asks politely, the second insists, the third ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130


class Stopping:
    """Decides what a request to stop does, while its `with` block runs.

    Until `politely` has been called, and on the second request, `KeyboardInterrupt` is raised, so that open
    resources are closed on the way out.

    Attributes:
        asked: Whether the polite way was taken.
    """

    def __init__(self) -> None:
        self.asked = False
        self._leave: Callable[[], None] | None = None
        self._requests = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def politely(self, leave: Callable[[], None]) -> None:
        """Say how to leave from now on.

        Args:
            leave: Called within a signal handler, once: it may set a flag and not much more.
        """
        self._leave = leave

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._requests += 1
        if self._requests == 1 and self._leave is not None:
            self.asked = True
            self._leave()
        elif self._requests <= 2:
            raise KeyboardInterrupt
        else:
            os._exit(_INTERRUPTED)
