"""The DHT takes our signed records in their authors' places, and refuses and counts everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.core.compact import compact
from paceline.core.records import RECORD_TYPES, CreditRecord, Record
from paceline.core.wire import MAX_AHEAD_S, MAX_RECORD_BYTES, REASONS, seal
from paceline.network.validator import KEYS, RecordValidator, Rejections
from tests.core.history import peers
from tests.core.strategies import KEYS as SIGNERS
from tests.core.strategies import records
from tests.core.test_wire import forged

NOW = 1_700_000_000.0
ALICE, BOB = peers(2)
REGULAR, WHOLE_DICTIONARY = b"\xc0", b""  # hivemind's marks for a value without subkeys, and for all of them


def credit(**changes: Any) -> CreditRecord:
    content = {"run_id": "run", "peer_id": ALICE.peer_id, "seq": 1, "expires_at": NOW + 60.0}
    content |= {"round_id": 3, "head_digest": "ab" * 32, "balance": 5}
    return CreditRecord.model_validate(content | changes)


def key_of(kind: str) -> bytes:
    return bytes(DHTID.generate(source=KEYS[kind]))


def stored(record: Record = credit(), **changes: Any) -> DHTRecord:
    """A record as it reaches a validator; `changes` are an attacker's."""
    sealed = seal(record, {key.peer_id: key for key in [*SIGNERS, ALICE, BOB]}[record.peer_id])
    honest = DHTRecord(
        key_of(record.kind), msgpack.packb(record.peer_id), msgpack.packb(sealed), record.expires_at
    )
    return replace(honest, **changes)


def content(**changes: Any) -> Any:
    return compact({**credit().model_dump(exclude_defaults=True), **changes})


def signed(packed: Any) -> bytes:
    """The value of a record that its author signed, whatever is in it."""
    return bytes(msgpack.packb(forged(packed, key=ALICE)))


def verdict(record: DHTRecord) -> str:
    """What the validator makes of a record: "" or the reason under which it counted it."""
    rejections = Rejections()
    accepted = RecordValidator(rejections, clock=lambda: NOW).validate(record)
    counted = [reason for reason, count in rejections.by_reason().items() for _ in range(count)]
    assert accepted == (not counted)
    assert len(counted) <= 1
    return "".join(counted)


def flipped(value: bytes, position: int) -> bytes:
    return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


@settings(max_examples=150, deadline=None)
@given(records, st.floats(0.001, MAX_AHEAD_S - 0.001))
def test_an_authors_record_is_accepted_in_its_place_whatever_its_kind(record: Record, ahead: float) -> None:
    record = record.model_copy(update={"expires_at": NOW + ahead})
    try:
        honest = stored(record)
    except ValueError as error:
        assert "limit" in str(error)
        return
    assert verdict(honest) == ""


HONEST = stored()
REFUSED: dict[str, list[tuple[str, Callable[[], DHTRecord]]]] = {
    "size": [
        ("5 KB", lambda: stored(value=msgpack.packb(bytes(5_000)))),
        ("100 KB", lambda: stored(value=bytes(100_000))),
        ("4096 bytes", lambda: stored(value=msgpack.packb(bytes(MAX_RECORD_BYTES)))),
        ("a 5 KB record, signed", lambda: stored(value=signed(content(run_id="x" * 5_000)))),
        ("a long subkey", lambda: stored(subkey=msgpack.packb("x" * 100))),
        ("text in place of bytes", lambda: stored(value=msgpack.packb("x"))),
        ("an extension", lambda: stored(value=msgpack.packb(msgpack.ExtType(0x40, b"\x90")))),
    ],
    "format": [
        ("nothing", lambda: stored(value=b"")),
        ("no msgpack", lambda: stored(value=b"\xc1")),
        ("cut short", lambda: stored(value=HONEST.value[:-1])),
        ("more behind it", lambda: stored(value=HONEST.value + b"\x00")),
        ("no record", lambda: stored(value=msgpack.packb(b"hello"))),
        ("text from a dictionary", lambda: stored(value="x")),
        ("a list from a dictionary", lambda: stored(value=[1])),
        ("nothing from a dictionary", lambda: stored(value=None)),
        ("a number spelled as text", lambda: stored(value=signed(content(balance="5")))),
        ("fields in another order", lambda: stored(value=signed(dict(reversed(content().items()))))),
    ],
    "signature": [
        ("a changed byte of the content", lambda: stored(value=flipped(HONEST.value, 60))),
        (
            "a changed byte of the signature",
            lambda: stored(value=flipped(HONEST.value, len(HONEST.value) - 1)),
        ),
        ("another's key", lambda: stored(value=HONEST.value.replace(ALICE.public, BOB.public, 1))),
    ],
    "schema": [
        ("text for a number", lambda: stored(value=signed(content(balance="many")))),
        ("a negative number", lambda: stored(value=signed(content(balance=-1)))),
        ("an unknown field", lambda: stored(value=signed(content(surprise=1)))),
        ("a missing field", lambda: stored(value=signed({"run_id": "run"}))),
        ("no map", lambda: stored(value=signed([1, 2, 3]))),
        ("nested deep", lambda: stored(value=signed(b"\x91" * 3_000 + b"\x00"))),
        ("an expiry of infinity", lambda: stored(value=signed(content(expires_at=math.inf)))),
        ("an expiry that is no number", lambda: stored(value=signed(content(expires_at=math.nan)))),
        ("an unknown kind", lambda: stored(value=msgpack.packb(forged(content(), kind="gossip")))),
    ],
    "owner": [
        ("signed for somebody else", lambda: stored(value=signed(content(peer_id=BOB.peer_id)))),
        ("in somebody else's place", lambda: stored(subkey=msgpack.packb(BOB.peer_id))),
        ("in the place of another kind", lambda: stored(key=key_of("peer"))),
        ("over the whole key", lambda: stored(subkey=REGULAR)),
        ("without a subkey", lambda: stored(subkey=WHOLE_DICTIONARY)),
        (
            "under another spelling of the subkey",
            lambda: stored(subkey=b"\xda\x00\x34" + ALICE.peer_id.encode()),
        ),
        ("with a later expiry", lambda: stored(expiration_time=NOW + 61.0)),
        ("with an expiry of infinity", lambda: stored(expiration_time=math.inf)),
        ("with an expiry that is no number", lambda: stored(expiration_time=math.nan)),
        ("with an expiry that is text", lambda: stored(expiration_time="soon")),
    ],
    "expired": [
        ("this moment", lambda: stored(credit(expires_at=NOW))),
        ("long ago", lambda: stored(credit(expires_at=1.0))),
        ("before 1970", lambda: stored(credit(expires_at=-1e300))),
    ],
    "far_future": [
        ("an hour and a second", lambda: stored(credit(expires_at=NOW + MAX_AHEAD_S + 1))),
        ("ten years", lambda: stored(credit(expires_at=NOW + 3.15e8))),
        ("1e300", lambda: stored(credit(expires_at=1e300))),
    ],
    "key": [
        ("another key", lambda: stored(key=DHTID.generate(source="somebody.else").to_bytes())),
        ("another spelling of the key", lambda: stored(key=b"\x00" + key_of("credits"))),
        ("no key", lambda: stored(key=b"")),
    ],
}


def test_every_reason_of_a_validator_is_tried() -> None:
    of_the_board = {"stale", "run"}  # which knows the run, and what it has read before
    assert set(REFUSED) == set(REASONS) - of_the_board
    assert verdict(HONEST) == ""


@pytest.mark.parametrize(
    ("reason", "record"),
    [(reason, make) for reason, cases in REFUSED.items() for _, make in cases],
    ids=[f"{reason}: {name}" for reason, cases in REFUSED.items() for name, _ in cases],
)
def test_what_fails_a_check_is_refused_and_counted_by_its_reason(
    reason: str, record: Callable[[], DHTRecord]
) -> None:
    assert verdict(record()) == reason


@pytest.mark.parametrize("kind", sorted(set(RECORD_TYPES) - {"credits"}))
def test_a_record_fits_no_key_but_its_own_kinds(kind: str) -> None:
    assert verdict(stored(key=key_of(kind))) == "owner"


# What hivemind hands to a validator out of somebody else's dictionary is of any type that msgpack knows.
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_opened = [HONEST.value, msgpack.packb(b"\x95"), signed({}), signed([]), signed(b"\xc1")]


@settings(max_examples=500, deadline=None)
@given(
    key=st.sampled_from([key_of(kind) for kind in KEYS]) | st.binary(max_size=24),
    subkey=st.just(HONEST.subkey) | st.binary(max_size=90) | _plain.map(msgpack.packb),
    value=st.sampled_from(_opened) | st.binary(max_size=300) | _plain.map(msgpack.packb) | _plain,
    expiration_time=st.just(HONEST.expiration_time) | st.floats() | _plain,
)
def test_nothing_that_a_peer_sends_raises_out_of_validate(
    key: bytes, subkey: bytes, value: Any, expiration_time: Any
) -> None:
    record = DHTRecord(key, subkey, value, expiration_time)
    assert verdict(record) or record == HONEST


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(HONEST.value) - 1), st.integers(1, 255))
def test_a_record_with_any_byte_changed_is_refused(position: int, change: int) -> None:
    value = bytearray(HONEST.value)
    value[position] ^= change
    assert verdict(replace(HONEST, value=bytes(value)))
