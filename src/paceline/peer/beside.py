"""Work beside training: a round is exchanged in a thread of its own while the main thread trains on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial


class Beside:
    """One job at a time, in their order.

    Guarantees:
        A job's error reaches whoever waits for it, and jobs after it are not begun.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs or is yet to run."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], object]) -> None:
        """Start a job, as soon as the one before has ended; not at all if that fails.

        Args:
            job: What to do.
        """
        run = partial(self._run, job, after=self._thread)
        self._thread = threading.Thread(target=run, name="exchange", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end of all jobs.

        Raises:
            Exception: What it has raised; told once.
        """
        self.leave(None)
        self.check()

    def leave(self, timeout_s: float | None) -> None:
        """Wait for the end of all jobs, whatever comes of them.

        Args:
            timeout_s: How long at most; without end when None.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)

    def check(self) -> None:
        """Find out whether a job has failed.

        Raises:
            Exception: What it has raised; told once.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], object], after: threading.Thread | None) -> None:
        if after is not None:
            after.join()
        if self._error is not None:
            return
        try:
            job()
        except BaseException as error:  # it is the main thread's to deal with
            self._error = error
