"""A child process: started in a session of its own, stopped gently, never left behind.

A child of its own session does not see the terminal's Ctrl-C, so its parent decides when it leaves. On Linux
the kernel ends it when the parent dies, however that happens; elsewhere a killed parent leaves its children.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Asks the kernel for SIGKILL at the parent's death (1 is PR_SET_PDEATHSIG), makes sure that the parent did
# not die before that, and becomes the program.
_TIE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
TAIL_BYTES = 16384
"""So much of what a process printed is enough to find its last error in."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
COMMAND = (sys.executable, "-m", "paceline.cli")
"""How a local peer is started: this interpreter, this installation."""


class Child:
    """A running process whose output goes to a file.

    Attributes:
        name: What people call it.
        pid: Its process id.
    """

    def __init__(self, name: str, command: Sequence[str], output: Path) -> None:
        """Start the process. Call this in the main thread: the child ends with the thread that started it.

        Args:
            name: What people call it.
            command: Path of the program, and its arguments.
            output: File that takes its standard output and error; folders above it are made.
        """
        output.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._output = output
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                tied_to_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """Look whether it has ended.

        Returns:
            Its exit code, negative for a signal; None while it runs.
        """
        return self._process.poll()

    def ask_to_leave(self) -> None:
        """Send SIGTERM, unless it has ended."""
        if self.exit_code() is None:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended. Its own children end with it."""
        if self.exit_code() is None:
            self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end.

        Args:
            timeout_s: How long, in seconds.

        Returns:
            Whether it has ended.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """Tell why it ended: the signal, or the last error line that it printed, or its last line.

        Returns:
            One line, empty when nothing is known.
        """
        with self._output.open("rb") as output:
            output.seek(max(0, self._output.stat().st_size - TAIL_BYTES))
            return last_words(self.exit_code() or 0, output.read())


def last_words(code: int, printed: bytes) -> str:
    """Tell why a process ended: the signal, or the last error line that it printed, or its last line.

    Args:
        code: Its exit code, negative for a signal.
        printed: The end of what it printed.

    Returns:
        One line, empty when nothing is known.
    """
    if code < 0:
        return f"killed by {_signal_name(-code)}"
    text = _COLOUR.sub("", printed.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """Make a command whose process ends with the thread that starts it, however that ends; Linux only.

    Args:
        command: Path of a program, and its arguments.

    Returns:
        The command to start in its place; it becomes that program and keeps its process id.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
