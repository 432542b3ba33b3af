"""Sealed records: how a record becomes bytes that anyone can check, and back.

A sealed record is msgpack of `[version, kind, public key, content, signature]`. The signature covers
everything before it. There is exactly one spelling of each record: bytes that do not pack back to themselves
are refused, so no byte of a stored record can be changed unnoticed.
"""

from __future__ import annotations

from typing import Any

import msgpack
from pydantic import ValidationError

from paceline.core.compact import compact, expand
from paceline.core.errors import RecordRejected
from paceline.core.records import RECORD_TYPES, Record
from paceline.core.signing import SigningKey, peer_id_of, verify

VERSION = 1
MAX_RECORD_BYTES = 4096
MAX_AHEAD_S = 3600.0
REASONS = ("size", "format", "signature", "schema", "owner", "expired", "far_future", "stale", "key", "run")
"""Every reason for which a record is dropped, as a metric label."""
_DOMAIN = b"paceline record\x00"


def seal(record: Record, key: SigningKey) -> bytes:
    """Pack and sign a record.

    Args:
        record: The record; its `peer_id` must be the key's.
        key: The author's key.

    Returns:
        The sealed bytes, fewer than `MAX_RECORD_BYTES`.

    Raises:
        ValueError: The record speaks for another peer, or is too large.
    """
    if record.peer_id != key.peer_id:
        raise ValueError("a peer signs only for itself")
    head = [VERSION, record.kind, key.public, msgpack.packb(compact(_content(record)))]
    sealed: bytes = msgpack.packb([*head, key.sign(_signed_bytes(head))])
    if len(sealed) >= MAX_RECORD_BYTES:
        raise ValueError(f"a {record.kind} record of {len(sealed)} bytes; {MAX_RECORD_BYTES} is the limit")
    return sealed


def unseal(sealed: bytes) -> Record:
    """Check and parse sealed bytes, whoever they came from.

    Args:
        sealed: Untrusted bytes.

    Returns:
        The record, whose signature and schema hold. Expiry is the caller's to judge (`check_expiry`).

    Raises:
        RecordRejected: With the first check that failed as its reason.
    """
    if not isinstance(sealed, bytes) or len(sealed) >= MAX_RECORD_BYTES:
        raise RecordRejected("size", "a record of 4 KB or more")
    kind, public, content, signature, head = _split(sealed)
    if not verify(peer_id_of(public), _signed_bytes(head), signature):
        raise RecordRejected("signature", "the signature does not match")
    record = _parse(kind, content)
    if record.peer_id != peer_id_of(public):
        raise RecordRejected("owner", "the author is not the signer")
    return record


def check_expiry(record: Record, now: float) -> None:
    """Refuse a record that is over, or that wants to stay for longer than an hour.

    Args:
        record: Any record.
        now: Seconds since 1970.

    Raises:
        RecordRejected: `expired` or `far_future`.
    """
    if record.expires_at <= now:
        raise RecordRejected("expired", f"expired {now - record.expires_at:.0f} s ago")
    if record.expires_at > now + MAX_AHEAD_S:
        raise RecordRejected("far_future", "expires more than an hour ahead")


def _content(record: Record) -> dict[str, Any]:
    return record.model_dump(exclude_defaults=True)


def _signed_bytes(head: list[Any]) -> bytes:
    return _DOMAIN + bytes(msgpack.packb(head))


def _split(sealed: bytes) -> tuple[str, bytes, bytes, bytes, list[Any]]:
    try:
        version, kind, public, content, signature = parts = msgpack.unpackb(sealed)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise RecordRejected("format", "not a sealed record") from error
    # True and 1.0 equal 1, and would be further spellings of it.
    typed = type(version) is int and isinstance(kind, str)
    typed = typed and all(isinstance(part, bytes) for part in (public, content, signature))
    if version != VERSION or not typed or len(public) != 32 or msgpack.packb(parts) != sealed:
        raise RecordRejected("format", "not a sealed record of this version")
    return kind, public, content, signature, parts[:4]


def _parse(kind: str, content: bytes) -> Record:
    record_type = RECORD_TYPES.get(kind)
    if record_type is None:
        raise RecordRejected("schema", f"unknown kind {kind!r}")
    try:
        record = record_type.model_validate(expand(content))
    except (ValidationError, ValueError) as error:
        raise RecordRejected("schema", f"a {kind} record that breaks its schema") from error
    if msgpack.packb(compact(_content(record))) != content:
        raise RecordRejected("format", "not the canonical spelling")
    return record
