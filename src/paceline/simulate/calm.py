"""The board of a large swarm on a good day: a record shows up for all readers a moment after it is posted."""

from __future__ import annotations

from random import Random

import msgpack

from paceline.core.compact import compact
from paceline.core.records import Record
from paceline.simulate.weather import Mailbox, Posted, VirtualBoard, Weather

_DELAY_S = 0.1


class CalmBoard(VirtualBoard):
    """A board on which only the latest record of each place is found, as in the real DHT.

    It costs a reader time only for what is new, and an author nothing for its readers: a thousand peers can
    be simulated. A real read, though, returns everything that stands in the places it asks for; `num_bytes`
    counts that.

    Attributes:
        num_posts: Records posted.
        num_reads: Looks at the board.
        num_bytes: What those looks would have fetched.
    """

    def __init__(self, rng: Random) -> None:
        """Begin empty.

        Args:
            rng: Not used: nothing is left to chance here.
        """
        super().__init__(rng, Weather())
        self.num_posts = self.num_reads = self.num_bytes = 0
        self._log: list[tuple[float, Posted]] = []
        self._standing: dict[tuple[str, str], tuple[float, Posted]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._total_size = 0

    def post(self, record: Record, now: float) -> Posted:
        """Put a record in its place, and let it travel to all readers.

        Args:
            record: Stamped by its author.
            now: Virtual seconds.

        Returns:
            The record with its token.
        """
        posted = super().post(record, now)
        entry = (now + _DELAY_S, posted)
        self.num_posts += 1
        self._log.append(entry)
        self._standing[posted.place] = entry
        size = _sealed_size(record)
        self._total_size += size - self._sizes.get(posted.place, 0)
        self._sizes[posted.place] = size
        return posted

    def send(self, posted: Posted, box: Mailbox, now: float) -> float:
        """Tell when a record arrives; all readers share one log, so there is nothing to send.

        Args:
            posted: The record.
            box: The reader's.
            now: Virtual seconds.

        Returns:
            When.
        """
        return now + _DELAY_S

    def show_all(self, box: Mailbox, now: float) -> None:
        """Do nothing: a new reader begins at the beginning.

        Args:
            box: The reader's.
            now: Virtual seconds.
        """

    def collect(self, reader: str, box: Mailbox, now: float, wall: float) -> list[Posted]:
        """Read what is new and has not been covered by something newer.

        Args:
            reader: Who reads.
            box: Its mailbox.
            now: Virtual seconds.
            wall: The reader's clock; nothing expires on a good day.

        Returns:
            Records.
        """
        log, standing, index = self._log, self._standing, box.num_read
        found = []
        while index < len(log) and log[index][0] <= now:
            posted = log[index][1]
            latest = standing[posted.place]
            if (latest[1] is posted or latest[0] > now) and posted.place[1] != reader:
                found.append(posted)
            index += 1
        box.num_read = index
        self.num_messages += len(found)
        self.num_reads += 1
        self.num_bytes += self._total_size
        return found


def _sealed_size(record: Record) -> int:
    # As paceline.core.wire seals it, with a key and a signature of the right lengths.
    content = msgpack.packb(compact(record.model_dump(exclude_defaults=True)))
    return len(msgpack.packb([1, record.kind, bytes(32), content, bytes(64)]))
