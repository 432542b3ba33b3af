"""Work beside training: a round is exchanged in a thread of its own while the main thread trains on."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Beside:
    """One job at a time, in a thread.

    Guarantees:
        A job's error reaches whoever waits for it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], object]) -> None:
        """Start a job, after the end of the one before.

        Args:
            job: What to do.

        Raises:
            Exception: What the job before has raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="exchange", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end of the job, if there is one.

        Raises:
            Exception: What it has raised; told once.
        """
        self.leave(None)
        self.check()

    def leave(self, timeout_s: float | None) -> None:
        """Wait for the end of the job, whatever comes of it.

        Args:
            timeout_s: How long at most; without end when None.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)

    def check(self) -> None:
        """Find out whether the job has failed.

        Raises:
            Exception: What it has raised; told once.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # it is the main thread's to deal with
            self._error = error
