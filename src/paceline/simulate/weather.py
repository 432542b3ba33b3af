"""The virtual network: a board of records that come late, twice, out of order or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from paceline.core.errors import RecordRejected
from paceline.core.records import Record
from paceline.core.wire import check_expiry

_VERSIONS = 3
_RETRY_S = 1.0


class Posted(NamedTuple):
    """A record on the virtual board, with a token where the real one has signed bytes."""

    record: Record
    sealed: bytes


@dataclass
class Weather:
    """How badly records travel; changed while a day goes on.

    Attributes:
        delay_s: The longest usual delay.
        loss: Share of records that a reader misses at its first look.
        stale: Share of records of which a reader keeps seeing the older version for some seconds.
        repeats: Share of records that come twice, the second time late.
        filtered: Whether readers drop what is older than what they have seen, as the real board does.
    """

    delay_s: float = 0.2
    loss: float = 0.0
    stale: float = 0.0
    repeats: float = 0.0
    filtered: bool = True

    def clear_up(self) -> None:
        """Make travelling easy."""
        self.loss = self.stale = self.repeats = 0.0


class Mailbox:
    """What is on its way to one reader, and what it has seen."""

    def __init__(self) -> None:
        self.coming: list[tuple[float, int, Posted]] = []
        self.held: list[Posted] = []
        self.seen: dict[tuple[str, str], int] = {}


class VirtualBoard:
    """Where virtual peers post records.

    Attributes:
        weather: How records travel now.
        blocked: Pairs of author and reader between whom nothing passes.
        num_messages: Records handed to readers so far.
    """

    def __init__(self, rng: Random, weather: Weather) -> None:
        """Begin empty.

        Args:
            rng: The day's chance.
            weather: How records travel.
        """
        self.weather = weather
        self.blocked: set[tuple[str, str]] = set()
        self.num_messages = 0
        self._rng = rng
        self._count = 0
        self._places: dict[tuple[str, str], list[Posted]] = {}
        self._kept: dict[bytes, Record] = {}

    def post(self, record: Record) -> Posted:
        """Put a record in its place, where it covers the author's previous one of its kind.

        Args:
            record: Stamped by its author.

        Returns:
            The record with its token.
        """
        self._count += 1
        posted = Posted(record, self._count.to_bytes(8, "big"))
        self._kept[posted.sealed] = record
        versions = self._places.setdefault((record.kind, record.peer_id), [])
        versions.append(posted)
        del versions[:-_VERSIONS]
        return posted

    def latest(self, kind: str, author: str) -> Record | None:
        """Find what covers a place.

        Args:
            kind: Kind of record.
            author: Whose.

        Returns:
            The record, if there is one.
        """
        versions = self._places.get((kind, author))
        return versions[-1].record if versions else None

    def unseal(self, sealed: bytes) -> Record:
        """Find the record of a token, in place of checking a signature.

        Args:
            sealed: The token.

        Returns:
            The record.

        Raises:
            RecordRejected: Nobody posted it.
        """
        if sealed not in self._kept:
            raise RecordRejected("signature", "nobody posted this")
        return self._kept[sealed]

    def send(self, posted: Posted, box: Mailbox, now: float) -> float:
        """Let a record travel to a reader.

        Args:
            posted: The record.
            box: The reader's.
            now: Virtual seconds.

        Returns:
            When it arrives.
        """
        weather, rng = self.weather, self._rng
        arrives = now + rng.random() * weather.delay_s
        while rng.random() < weather.loss:
            arrives += _RETRY_S
        if weather.stale and rng.random() < weather.stale:
            arrives += rng.uniform(2.0, 10.0)
        self._count += 1
        heappush(box.coming, (arrives, self._count, posted))
        if weather.repeats and rng.random() < weather.repeats:
            self._count += 1
            heappush(box.coming, (arrives + rng.uniform(0.5, 10.0), self._count, posted))
        return arrives

    def show_all(self, box: Mailbox, now: float) -> None:
        """Show the board to a reader that has just started, perhaps an older version of it first.

        Args:
            box: The reader's.
            now: Virtual seconds.
        """
        for versions in self._places.values():
            older = self._rng.random() < 0.1 + self.weather.stale
            for posted in versions if older else versions[-1:]:
                self.send(posted, box, now)

    def collect(self, reader: str, box: Mailbox, now: float, wall: float) -> Iterator[Posted]:
        """Read what is new.

        Args:
            reader: Who reads.
            box: Its mailbox.
            now: Virtual seconds.
            wall: The reader's clock, seconds since 1970.

        Yields:
            Records, as the real board would return them.
        """
        came, coming = [], box.coming
        while coming and coming[0][0] <= now:
            came.append(heappop(coming)[2])
        if box.held:
            came, box.held = box.held + came, []
        for posted in came:
            record = posted.record
            if (record.peer_id, reader) in self.blocked:
                box.held.append(posted)
                continue
            place = (record.kind, record.peer_id)
            if record.seq <= box.seen.get(place, -1):
                if self.weather.filtered:
                    continue
            else:
                box.seen[place] = record.seq
            try:
                check_expiry(record, wall)
            except RecordRejected:
                continue
            self.num_messages += 1
            yield posted

    def reach(self, one: str, other: str) -> bool:
        """Tell whether two peers can talk to each other, both ways.

        Args:
            one: A peer.
            other: Another.

        Returns:
            Whether streams between them work.
        """
        return (one, other) not in self.blocked and (other, one) not in self.blocked
