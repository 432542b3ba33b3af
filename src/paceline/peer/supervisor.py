"""A slim parent that keeps one peer running: it starts it again when it ends, and says why it ended.

The peer is an ordinary `paceline join` in a session of its own, which the kernel ends when the supervisor
dies. Its standard output is the supervisor's; its standard error passes through, so that the supervisor knows
the last error. Nothing heavy is imported here: a supervisor takes some 50 MB while its peer trains.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from paceline.core.events import Emit, PeerRestarting
from paceline.core.restarts import FINISHED, REFUSED, Restarts, is_final
from paceline.peer.child import TAIL_BYTES, last_words, tied_to_parent
from paceline.peer.pulse import Pulse

_STANDARD_ERROR = 2
_LOOK_S = 0.2
_PULSE_S = 1.0
_MOST_READS = 64  # of what is left in the pipe when the peer has ended: 4 MB


@dataclass(frozen=True)
class Surroundings:
    """What a supervisor works with.

    Attributes:
        new_pulse: Begins to watch a life of the peer, at a time on `time.monotonic`.
        emit: Tells of restarts; the peer is not running then, so it may write where the peer writes.
        tell: Takes lines for people.
        chance: Draws from 0 to 1.
    """

    new_pulse: Callable[[float], Pulse]
    emit: Emit
    tell: Callable[[str], None]
    chance: Callable[[], float] = random.random


class Supervisor:
    """Keeps one peer running.

    Guarantees:
        A killed peer is started again.
        A peer that only a person can mend stays down.
        A peer dies with its supervisor.
        What a peer writes passes through its supervisor whole.
    """

    def __init__(self, command: Sequence[str], around: Surroundings) -> None:
        """Prepare; `run` starts the peer.

        Args:
            command: Path of the peer's program, and its arguments.
            around: What to work with.
        """
        self._command, self._around = tuple(command), around
        self._restarts = Restarts()
        self._life: Life | None = None
        self._leaving = False

    def leave(self) -> None:
        """Ask the peer to leave, and start it no more; safe in a signal handler."""
        self._leaving = True
        if self._life is not None:
            self._life.ask_to_leave()

    def run(self) -> int:
        """Keep the peer running until it ends for good. Call this in the main thread.

        Returns:
            The exit code to end with: that of the peer, or 128 and the number of the signal that killed it.
        """
        while not self._leaving:
            began = time.monotonic()
            pulse = self._around.new_pulse(began)
            with Life(self._command) as self._life:
                code, cause = self._outlive(self._life, pulse)
            self._life = None
            if self._leaving:
                return code if code >= 0 else 128 - code
            if is_final(code):
                if code == REFUSED:
                    self._around.tell(f"peer ended: {cause}; starting it again would not help")
                return code
            lived_s = time.monotonic() - began
            self._pause(self._restart(cause, lived_s, committed=pulse.committed))
        return FINISHED

    def _outlive(self, life: Life, pulse: Pulse) -> tuple[int, str]:
        # Wait for the peer's end; returns its exit code, and why it ended.
        if self._leaving:
            life.ask_to_leave()
        hung, looked_at = "", time.monotonic()
        while (code := life.exit_code()) is None:
            life.pass_on(_LOOK_S)
            if not hung and (now := time.monotonic()) >= looked_at + _PULSE_S:
                looked_at = now
                if hung := pulse.hung(now):
                    life.kill()
        pulse.hung(time.monotonic())  # its last events
        life.pass_on_rest()
        cause = f"hung ({hung})" if hung else last_words(code, life.printed)
        return code, cause or f"exit code {code}"

    def _restart(self, cause: str, lived_s: float, *, committed: bool) -> float:
        chance = self._around.chance()
        wait_s = self._restarts.wait_s(lived_s=lived_s, committed=committed, chance=chance)
        self._around.emit(PeerRestarting(cause=cause, wait_s=wait_s, restarts=self._restarts.count))
        return wait_s

    def _pause(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while not self._leaving and (rest := until - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, rest))


class Life:
    """One life of a supervised process, from its start to its end; leaving the `with` block ends it.

    Attributes:
        printed: The end of what it wrote to standard error.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process.

        Args:
            command: Path of the program, and its arguments.
        """
        self.printed = b""
        self._ears, theirs = os.pipe()
        with open(theirs, "wb") as voice:  # noqa: PTH123 - a pipe has no path
            self._process = subprocess.Popen(
                tied_to_parent(command), stdin=subprocess.DEVNULL, stderr=voice, start_new_session=True
            )
        self._silent = self._asked = False

    def __enter__(self) -> Life:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        os.close(self._ears)

    def exit_code(self) -> int | None:
        """Look whether it has ended.

        Returns:
            Its exit code, negative for a signal; None while it runs.
        """
        return self._process.poll()

    def ask_to_leave(self) -> None:
        """Send SIGTERM, unless it has ended; once only, since a second one would insist."""
        if not self._asked:
            self._asked = True
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended. Its own children end with it."""
        self._process.kill()

    def pass_on(self, timeout_s: float) -> bool:
        """Copy what it writes to this process's standard error.

        Args:
            timeout_s: How long to wait for something, in seconds.

        Returns:
            Whether there was something.
        """
        if self._silent:
            time.sleep(timeout_s)
            return False
        ready, _, _ = select.select([self._ears], [], [], timeout_s)
        heard = os.read(self._ears, 1 << 16) if ready else b""
        self._silent = bool(ready) and not heard
        self.printed = (self.printed + heard)[-TAIL_BYTES:]
        _write(heard)
        return bool(heard)

    def pass_on_rest(self) -> None:
        """Copy what is left, without waiting for anybody who may still hold the pipe."""
        for _ in range(_MOST_READS):
            if not self.pass_on(0.0):
                return


def _write(data: bytes) -> None:
    # A terminal that is gone, or a full disk, is no reason to end the peer.
    with suppress(OSError):
        while data:
            data = data[os.write(_STANDARD_ERROR, data) :]
