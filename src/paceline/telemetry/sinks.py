"""Events to several places at once, and to a file of JSON lines."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from paceline.core.events import Emit, Event

MAX_BYTES = 64 << 20
"""How large a file of events may grow: days of training, at a hundred bytes per step."""


def fan_out(*sinks: Emit) -> Emit:
    """Give every event to several sinks.

    Guarantees:
        A sink that fails holds nobody up.

    Args:
        sinks: Where events go, in this order.

    Returns:
        One sink in front of all. What a sink raises is told once on standard error: a full disk must not end
        the training that it would have logged.
    """
    told: set[int] = set()

    def emit(event: Event) -> None:
        for number, sink in enumerate(sinks):
            try:
                sink(event)
            except Exception as error:
                if number not in told:
                    told.add(number)
                    with suppress(OSError):  # standard error may be gone as well
                        print(f"events are lost: {type(error).__name__}: {error}", file=sys.stderr)

    return emit


class JsonlSink:
    r"""Appends one JSON object per event to a file: `time` in seconds since 1970, `name`, and its fields.

    Example line:
        `{"time": 1765432100.5, "name": "AttemptVoided", "round_id": 3, "attempt": 0, "cause": "…"}`

    Guarantees:
        Every event is one whole line, from whatever thread it comes.
        Weeks of events take no more than two files of the size that was allowed.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, *, max_bytes: int = MAX_BYTES
    ) -> None:
        """Open the file for appending.

        Args:
            path: The file; it and its folder are created when missing.
            clock: Tells the time in seconds since 1970.
            max_bytes: Before it grows beyond this, the file is renamed to `NAME.1`, in the place of an older
                one, and a new one begun.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _ends_within_a_line(path)
        self._path, self._max_bytes = path, max_bytes
        self._file = self._open()
        if torn:
            self._write("\n")
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Append its line.

        Args:
            event: Any event.
        """
        fields = {"time": self._clock(), "name": event.name, **event.model_dump(mode="json")}
        line = json.dumps(fields, separators=(",", ":"))
        with self._lock:
            self._write(f"{line}\n")

    def __enter__(self) -> JsonlSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _write(self, line: str) -> None:
        if self._size_bytes and self._size_bytes + len(line) > self._max_bytes:
            with suppress(FileNotFoundError):  # somebody has tidied up
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            full, self._file = self._file, self._open()
            full.close()
        self._file.write(line)
        self._size_bytes += len(line)  # JSON is written in ASCII

    def _open(self) -> TextIO:
        file = self._path.open("a", encoding="utf-8", buffering=1)
        self._size_bytes = os.fstat(file.fileno()).st_size
        return file


def _ends_within_a_line(path: Path) -> bool:
    # A killed process leaves such a file.
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
