"""Follow a peer's event file while the peer writes it.

The file is `events.jsonl` as `paceline.telemetry` writes it: one JSON object per line, with `time` in seconds
since 1970, `name` as the event's name, and the event's own fields. When it has grown large, it is renamed to
`events.jsonl.1` and begun anew.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import ValidationError

from paceline.core.events import Event


class Told(NamedTuple):
    """An event and when it happened.

    Attributes:
        time: Seconds since 1970, by the peer's clock.
        event: What happened.
    """

    time: float
    event: Event


class EventTail:
    """Reads what was appended since the last look.

    Attributes:
        path: The file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._offset = 0

    def skip(self) -> None:
        """Pass over what is there."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        self._identity, self._offset = (status.st_dev, status.st_ino), status.st_size

    def read(self) -> list[Told]:
        """Read the new events.

        Returns:
            In order; empty when there is nothing new. A line still being written waits for the next look,
            and one that is no event of this version is passed over.
        """
        try:
            with self.path.open("rb") as stream:
                data = b"" if self._knows(stream) else self._rest()
                data += self._news(stream)
        except FileNotFoundError:
            return []
        return [told for line in data.splitlines() if (told := parse(line)) is not None]

    def _knows(self, stream: BinaryIO) -> bool:
        return self._identity in (None, _identity(stream))

    def _rest(self) -> bytes:
        # What was written to the file that we know between our last look and its renaming.
        try:
            with self.path.with_name(f"{self.path.name}.1").open("rb") as stream:
                return self._news(stream) if self._knows(stream) else b""
        except FileNotFoundError:
            return b""

    def _news(self, stream: BinaryIO) -> bytes:
        identity, size_bytes = _identity(stream), os.fstat(stream.fileno()).st_size
        if identity != self._identity or size_bytes < self._offset:
            self._identity, self._offset = identity, 0
        stream.seek(self._offset)
        data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole


def _identity(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino


def parse(line: bytes) -> Told | None:
    """Parse one line of an event file.

    Args:
        line: JSON.

    Returns:
        The event and its time, or None when the line holds none that this version knows.
    """
    try:
        fields = json.loads(line)
        time, name = float(fields.pop("time")), fields.pop("name")
        return Told(time, _KINDS[name].model_validate(fields)) if math.isfinite(time) else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ValidationError):
        return None


_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
