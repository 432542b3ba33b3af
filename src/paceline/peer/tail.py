"""Follow a peer's event file while the peer writes it.

The file is `events.jsonl` as `paceline.telemetry` writes it: one JSON object per line, with `time` in seconds
since 1970, `name` as the event's name, and the event's own fields.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

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
        self._offset = 0

    def read(self) -> list[Told]:
        """Read the new events.

        Returns:
            In order; empty when there is nothing new. A line still being written waits for the next look,
            and one that is no event of this version is passed over.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [told for line in whole.splitlines() if (told := parse(line)) is not None]


def parse(line: bytes) -> Told | None:
    """Parse one line of an event file.

    Args:
        line: JSON.

    Returns:
        The event and its time, or None when the line holds none that this version knows.
    """
    try:
        fields = json.loads(line)
        time, name = fields.pop("time"), fields.pop("name")
        return Told(float(time), _KINDS[name].model_validate(fields))
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return None


_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
