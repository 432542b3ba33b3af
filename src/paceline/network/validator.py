"""What the DHT accepts: our signed records under our keys, each in its author's own place, and nothing else.

Runs in the DHT's process, for every record that somebody asks us to store and for every answer to a look-up.
Hivemind's own validators bind no record to the peer that it speaks for, and let anyone pin a record for ever.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import lru_cache

import msgpack
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase

from paceline.core.errors import RecordRejected
from paceline.core.records import RECORD_TYPES, Record
from paceline.core.wire import MAX_RECORD_BYTES, REASONS, check_expiry, unseal

KEYS = {kind: f"paceline.{kind}" for kind in RECORD_TYPES}
"""The DHT key of each kind of record; below it, every peer has one place, named by its peer id."""


class Rejections:
    """Counts of refused records by reason, in memory that the DHT's process shares."""

    def __init__(self) -> None:
        self._counts = multiprocessing.get_context("fork").Array("Q", len(REASONS))

    def add(self, reason: str) -> None:
        """Count one.

        Args:
            reason: One of `paceline.core.wire.REASONS`.
        """
        with self._counts.get_lock():
            self._counts[REASONS.index(reason)] += 1

    def by_reason(self) -> dict[str, int]:
        """Read the counts.

        Returns:
            How many records were refused since the start, for every reason.
        """
        return dict(zip(REASONS, self._counts[:], strict=True))


class RecordValidator(RecordValidatorBase):  # type: ignore[misc]
    """Checks place, size, signature, owner, schema and expiry of every record.

    A record can't be replayed: its expiry is signed, a newer record of the same place expires later, and
    storage keeps whichever expires last.

    Guarantees:
        Nothing that a peer sends raises out of `validate`.
    """

    def __init__(self, rejections: Rejections, clock: Callable[[], float] = time.time) -> None:
        """Make a validator.

        Args:
            rejections: Where refusals are counted.
            clock: Seconds since 1970.
        """
        self._rejections = rejections
        self._clock = clock
        self._kinds = {DHTID.generate(source=key).to_bytes(): kind for kind, key in KEYS.items()}

    def validate(self, record: DHTRecord) -> bool:
        """Decide whether a record may be stored or believed.

        Args:
            record: What hivemind got from a peer, or is about to send.

        Returns:
            Whether every check holds; a refusal is counted.
        """
        try:
            self._check(record)
        except RecordRejected as error:
            self._rejections.add(error.reason)
            return False
        return True

    def _check(self, stored: DHTRecord) -> None:
        kind = self._kinds.get(stored.key)
        if kind is None:
            raise RecordRejected("key", "no key of ours")
        if not isinstance(stored.value, bytes):  # within a whole dictionary anything can stand here
            raise RecordRejected("format", "not a sealed record")
        if len(stored.value) > MAX_RECORD_BYTES + 8 or len(stored.subkey) > 80:
            raise RecordRejected("size", "a record of 4 KB or more")
        record = _unpack(stored.value)
        if record.kind != kind or stored.subkey != msgpack.packb(record.peer_id):
            raise RecordRejected("owner", "a record in a place that is not its author's")
        if stored.expiration_time != record.expires_at:
            raise RecordRejected("owner", "an expiry that its author did not sign")
        check_expiry(record, self._clock())


@lru_cache(maxsize=1024)
def _unpack(value: bytes) -> Record:
    try:
        sealed = msgpack.unpackb(value)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise RecordRejected("format", "not a sealed record") from error
    return unseal(sealed)
