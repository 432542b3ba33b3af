"""The virtual network: a board of records that come late, twice, out of order or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from paceline.core.errors import RecordRejected
from paceline.core.records import PeerRecord, Record, RoundReceipt
from paceline.core.wire import check_expiry

_VERSIONS = 3
_RETRY_S = 1.0


class Urgency(Enum):
    """For whom a record matters so much that a poll soon after its arrival must be simulated."""

    NONE = "nobody"
    COORDINATOR = "the coordinator"
    VOTE = "the coordinator, and whoever knows a commit"
    ALL = "everybody"


def urgency_of(record: Record, last: Record | None) -> Urgency:
    """Judge a record.

    Args:
        record: The record.
        last: What its author had posted in its place before.

    Returns:
        For whom it matters.
    """
    if isinstance(record, RoundReceipt):
        return Urgency.VOTE
    if not isinstance(record, PeerRecord) or not isinstance(last, PeerRecord):
        return Urgency.ALL
    if (record.term, record.coordinator) != (last.term, last.coordinator):
        return Urgency.ALL
    changed = (record.phase, record.round_id, record.vote) != (last.phase, last.round_id, last.vote)
    return Urgency.COORDINATOR if changed else Urgency.NONE


class Posted(NamedTuple):
    """A record on the virtual board, with a token where the real one has signed bytes.

    Attributes:
        record: The record.
        sealed: The token.
        place: Its kind and author: where it covers an earlier one.
        seq: Its number.
    """

    record: Record
    sealed: bytes
    place: tuple[str, str]
    seq: int


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

    def __str__(self) -> str:
        """Say how it is.

        Returns:
            A sentence.
        """
        order = "in order" if self.filtered else "in any order"
        return (
            f"records travel up to {self.delay_s:.2f} s, {order}; {self.loss:.0%} are missed at first, "
            f"{self.stale:.0%} seen much later, {self.repeats:.0%} seen twice"
        )

    def clear_up(self) -> None:
        """Make travelling easy."""
        self.loss = self.stale = self.repeats = 0.0


class Mailbox:
    """What is on its way to one reader, what it has seen, and how much of a common log it has read."""

    def __init__(self) -> None:
        self.num_read = 0
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
        self._rng, self._chance = rng, rng.random
        self._count = 0
        self._places: dict[tuple[str, str], list[Posted]] = {}
        self._kept: dict[bytes, Record] = {}

    def post(self, record: Record, now: float) -> Posted:
        """Put a record in its place, where it covers the author's previous one of its kind.

        Args:
            record: Stamped by its author.
            now: Virtual seconds.

        Returns:
            The record with its token.
        """
        self._count += 1
        place = (record.kind, record.peer_id)
        posted = Posted(record, self._count.to_bytes(8, "big"), place, record.seq)
        self._kept[posted.sealed] = record
        versions = self._places.setdefault(place, [])
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
        weather, chance = self.weather, self._chance
        arrives = now + chance() * weather.delay_s
        while chance() < weather.loss:
            arrives += _RETRY_S
        if weather.stale and chance() < weather.stale:
            arrives += self._rng.uniform(2.0, 10.0)
        self._count += 1
        heappush(box.coming, (arrives, self._count, posted))
        if weather.repeats and chance() < weather.repeats:
            self._count += 1
            heappush(box.coming, (arrives + self._rng.uniform(0.5, 10.0), self._count, posted))
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

    def collect(self, reader: str, box: Mailbox, now: float, wall: float) -> list[Posted]:
        """Read what is new.

        Args:
            reader: Who reads.
            box: Its mailbox.
            now: Virtual seconds.
            wall: The reader's clock, seconds since 1970.

        Returns:
            Records, as the real board would return them.
        """
        came, coming = box.held, box.coming
        box.held = []
        while coming and coming[0][0] <= now:
            came.append(heappop(coming)[2])
        if self.blocked:
            box.held = [posted for posted in came if (posted.place[1], reader) in self.blocked]
            came = [posted for posted in came if (posted.place[1], reader) not in self.blocked]
        found = [posted for posted in came if self._is_shown(posted, box, wall)]
        self.num_messages += len(found)
        return found

    def _is_shown(self, posted: Posted, box: Mailbox, wall: float) -> bool:
        if posted.seq > box.seen.get(posted.place, -1):
            box.seen[posted.place] = posted.seq
        elif self.weather.filtered:
            return False
        try:
            check_expiry(posted.record, wall)
        except RecordRejected:
            return False
        return True

    def reach(self, one: str, other: str) -> bool:
        """Tell whether two peers can talk to each other, both ways.

        Args:
            one: A peer.
            other: Another.

        Returns:
            Whether streams between them work.
        """
        return (one, other) not in self.blocked and (other, one) not in self.blocked
