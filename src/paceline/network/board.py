"""The board: where peers post signed records for all to read. Nothing else passes between them but weights.

board = Board(dht, key, run_id="demo-1a2b3c4d", rejections=rejections)
board.publish(record)          # stamped, signed, stored; returns without waiting
for posted in board.read():    # what is new since the last call
    ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from paceline.core.errors import ProcessDied, RecordRejected
from paceline.core.records import RECORD_TYPES, Record
from paceline.core.signing import SigningKey
from paceline.core.wire import check_expiry, seal, unseal
from paceline.network import replica
from paceline.network.dht import PeerDht
from paceline.network.validator import KEYS, Rejections

READ_TIMEOUT_S = 10.0
_KEPT_ALIVE = ("plan", "receipt", "commit", "run")
_MIN_STEP_S = 1e-3
_OF_THE_CLOCK = {"expired", "far_future"}


@dataclass(frozen=True)
class Posted:
    """A record as it stands on the board.

    Attributes:
        record: Checked and parsed.
        sealed: The very bytes that its author signed.
    """

    record: Record
    sealed: bytes


class Board:
    """One peer's view of the board.

    Guarantees:
        A record never goes back in time.
        A record of another run is dropped.
        What is dropped is counted once, however often it is read.
        A peer whose clock was set back still replaces its own records.
        Reading an unreachable board returns nothing and raises nothing.
        A search that is held up ends with what this peer's own node keeps.
        Only the first look at a kind waits for the network.
    """

    def __init__(
        self,
        dht: PeerDht,
        key: SigningKey,
        *,
        run_id: str | None,
        rejections: Rejections,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Look at a swarm's board.

        Args:
            dht: A running DHT node.
            key: Signs what this peer publishes.
            run_id: The run whose records count; None for those of any run.
            rejections: Where dropped records are counted.
            clock: Seconds since 1970.
        """
        self._dht = dht
        self._key = key
        self.run_id = run_id
        self._rejections = rejections
        self._clock = clock
        self._last_seq: dict[tuple[str, str], int] = {}
        self._last_expiry: dict[str, float] = {}
        self._mine: dict[str, Posted] = {}
        self._dropped: dict[str, frozenset[bytes]] = {}
        self._waits_for_clock: set[str] = set()
        self._read_to: dict[str, int] = {}  # by kind; how far this board has read its node's replica
        self._storing: Any = None

    def publish(self, draft: Record) -> Posted:
        """Stamp, sign and store a record, without waiting for the network.

        Args:
            draft: A record of this peer; its `seq` and `expires_at` are set here.

        Returns:
            The record as posted.

        Raises:
            ProcessDied: The DHT's process is gone.
        """
        now = self._clock()
        place = (draft.kind, self._key.peer_id)
        seq = max(int(now * 1000), self._last_seq.get(place, 0) + 1)
        # Of two records in one place the one that expires later wins, so a newer one must expire later.
        expires_at = max(now + draft.lifetime_s, self._last_expiry.get(draft.kind, 0.0) + _MIN_STEP_S)
        record = draft.model_copy(update={"seq": seq, "expires_at": expires_at})
        posted = Posted(record, seal(record, self._key))
        self._last_seq[place], self._last_expiry[draft.kind] = seq, expires_at
        self._mine[draft.kind] = posted
        self._store(posted)
        return posted

    def refresh(self) -> None:
        """Store this peer's lasting records once more: some of those that kept them may have left.

        Raises:
            ProcessDied: The DHT's process is gone.
        """
        for kind in _KEPT_ALIVE:
            posted = self._mine.get(kind)
            if posted is not None and posted.record.expires_at > self._clock():
                self._store(posted)

    def flush(self, timeout_s: float = 3.0) -> None:
        """Wait until the latest record has been handed out, or nearly so: before the network goes down.

        Args:
            timeout_s: How long to wait at most.
        """
        if self._storing is not None:
            with suppress(Exception):  # whatever it is, there is no second chance
                self._storing.result(timeout_s)

    def read(self, kinds: Collection[str] = tuple(RECORD_TYPES), *, searches: bool = False) -> list[Posted]:
        """Fetch what is new.

        Args:
            kinds: Which kinds of record to look for.
            searches: Whether to wait until the network was searched, as a first look does.

        Returns:
            Records that this board has not returned before, of all peers but including this one's own.

        Raises:
            ProcessDied: The DHT's process is gone.
        """
        since = {KEYS[kind]: self._read_to.get(kind, 0) for kind in kinds}
        searches = searches or not self._read_to.keys() >= set(kinds)
        future = self._dht.run_coroutine(partial(replica.news, since, searches), return_future=True)
        try:
            read_to, found = future.result(READ_TIMEOUT_S)
        except TimeoutError:
            if not self._dht.is_alive():
                raise ProcessDied("DHT") from None
            return []
        news: list[Posted] = []
        for kind in kinds:
            news += self._news(kind, found[KEYS[kind]])
            # What was dropped because of a clock is looked at again: that reason may pass.
            self._read_to[kind] = self._read_to.get(kind, 0) if kind in self._waits_for_clock else read_to
        return news

    def _news(self, kind: str, values: Iterable[bytes]) -> Iterator[Posted]:
        dropped, reasons = set(), set()
        for sealed in values:
            try:
                record = _unseal(sealed)
                check_expiry(record, self._clock())
                is_new = self._is_new(kind, record)
            except RecordRejected as error:
                dropped.add(sealed)
                reasons.add(error.reason)
                if sealed not in self._dropped.get(kind, ()):
                    self._rejections.add(error.reason)
                continue
            if is_new:
                yield Posted(record, sealed)
        self._dropped[kind] = frozenset(dropped)
        self._waits_for_clock -= {kind}
        self._waits_for_clock |= {kind} if reasons & _OF_THE_CLOCK else set()

    def _is_new(self, kind: str, record: Record) -> bool:
        if record.kind != kind:
            raise RecordRejected("key", "a record of another kind")
        if self.run_id is not None and record.run_id != self.run_id:
            raise RecordRejected("run", "a record of another run")
        place = (kind, record.peer_id)
        last = self._last_seq.get(place, -1)
        if record.seq < last:
            raise RecordRejected("stale", "older than one seen before")
        self._last_seq[place] = record.seq
        if record.peer_id == self._key.peer_id:  # of an earlier life, perhaps with another clock
            self._last_expiry[kind] = max(record.expires_at, self._last_expiry.get(kind, 0.0))
        return record.seq > last

    def _store(self, posted: Posted) -> None:
        record = posted.record
        hand_out = partial(replica.post, KEYS[record.kind], record.peer_id, posted.sealed, record.expires_at)
        self._storing = self._dht.run_coroutine(hand_out, return_future=True)


@lru_cache(maxsize=1024)
def _unseal(sealed: bytes) -> Record:
    return unseal(sealed)
