"""A sealed record has one spelling, which only its author can make."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from paceline.core import wire
from paceline.core.compact import compact
from paceline.core.config import RunConfig
from paceline.core.errors import RecordRejected
from paceline.core.records import (
    MAX_MEMBERS,
    RECORD_TYPES,
    CommitRecord,
    CreditRecord,
    Record,
    RoundPlan,
    RunRecord,
)
from paceline.core.signing import SigningKey
from paceline.core.wire import MAX_AHEAD_S, MAX_RECORD_BYTES, REASONS, check_expiry, seal, unseal
from tests.core.history import commit_of, genesis_of, next_state, peers, run_of
from tests.core.strategies import KEYS, few, records

KEY_OF = {key.peer_id: key for key in KEYS}
KEY = KEYS[0]


def credit_record(**changes: Any) -> CreditRecord:
    content = {"run_id": "run", "peer_id": KEY.peer_id, "seq": 1, "expires_at": 100.0}
    return CreditRecord.model_validate(
        {**content, "round_id": 3, "head_digest": "ab" * 32, "balance": 5, **changes}
    )


def forged(
    content: Any, *, kind: Any = "credits", version: Any = wire.VERSION, key: SigningKey = KEY
) -> bytes:
    """Seal anything with a right signature, as a malicious author can."""
    packed = content if isinstance(content, bytes) else msgpack.packb(content)
    head = [version, kind, key.public, packed]
    return bytes(msgpack.packb([*head, key.sign(wire._signed_bytes(head))]))


def refusal(sealed: bytes) -> str:
    with pytest.raises(RecordRejected) as caught:
        unseal(sealed)
    assert caught.value.reason in REASONS
    return caught.value.reason


@settings(max_examples=300, deadline=None)
@given(records)
def test_every_record_comes_back_as_it_was_sealed(record: Record) -> None:
    try:
        sealed = seal(record, KEY_OF[record.peer_id])
    except ValueError as error:
        assert "limit" in str(error)
        return
    again = unseal(sealed)
    assert again == record
    assert type(again) is type(record)
    assert seal(again, KEY_OF[record.peer_id]) == sealed
    if isinstance(record, CommitRecord) and isinstance(again, CommitRecord):
        assert again.state.digest() == record.state.digest()


@pytest.mark.parametrize("kind", sorted(RECORD_TYPES))
def test_the_strategy_makes_every_kind_of_record(kind: str) -> None:
    # Draws depend on what modules are loaded, also derandomized ones: so it looks for a kind until it comes.
    patient = settings(
        max_examples=2000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],  # a busy machine says nothing about the strategy
    )
    assert find(records, lambda record: record.kind == kind, settings=patient).kind == kind


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records, st.integers(1, 255))
def test_any_flipped_byte_of_a_sealed_record_is_refused(record: Record, flip: int) -> None:
    try:
        sealed = bytearray(seal(record, KEY_OF[record.peer_id]))
    except ValueError:
        assume(False)
    for position in range(len(sealed)):
        sealed[position] ^= flip
        refusal(bytes(sealed))
        sealed[position] ^= flip


@few
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(sealed: bytes) -> None:
    refusal(sealed)


@few
@given(st.binary(max_size=300), st.sampled_from([*RECORD_TYPES, "other"]))
def test_random_content_under_a_right_signature_is_refused(content: bytes, kind: str) -> None:
    assert refusal(forged(content, kind=kind)) in {"schema", "format", "owner"}


def test_every_truncation_is_refused() -> None:
    sealed = seal(credit_record(), KEY)
    for length in range(len(sealed)):
        refusal(sealed[:length])
    refusal(sealed + b"\x00")


@pytest.mark.parametrize("depth", [9, 100, 500, 700, 1000, 3000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
def test_a_record_nested_too_deep_is_refused(depth: int, opening: bytes) -> None:
    content = opening * depth + b"\x00"
    assert refusal(forged(content)) == ("schema" if len(content) < 3900 else "size")
    assert refusal(forged(b"\x81\xa6run_id" + content)) in {"schema", "size"}
    refusal(content)


@pytest.mark.parametrize("size", [MAX_RECORD_BYTES, 300_000])
def test_a_huge_record_is_refused_unread(size: int) -> None:
    assert refusal(bytes(size)) == "size"
    assert refusal(forged(bytes(size))) == "size"


@pytest.mark.parametrize("version", [0, 2, True, 1.0, "1", b"1", None, 2**63])
def test_another_version_is_refused(version: Any) -> None:
    content = compact(credit_record().model_dump(exclude_defaults=True))
    assert refusal(forged(content, version=version)) == "format"


@pytest.mark.parametrize("kind", [1, b"credits", None, ["credits"]], ids=str)
def test_a_kind_that_is_no_text_is_refused(kind: Any) -> None:
    assert refusal(forged({}, kind=kind)) == "format"


def test_an_unknown_kind_is_refused() -> None:
    assert refusal(forged({}, kind="gossip")) == "schema"


def test_a_record_of_another_kind_than_it_says_is_refused() -> None:
    content = compact(credit_record().model_dump(exclude_defaults=True))
    assert refusal(forged(content, kind="peer")) == "schema"


def test_nobody_speaks_for_somebody_else() -> None:
    record = credit_record(peer_id=KEYS[1].peer_id)
    with pytest.raises(ValueError, match="only for itself"):
        seal(record, KEY)
    assert refusal(forged(compact(record.model_dump(exclude_defaults=True)))) == "owner"


def test_a_record_sealed_under_another_run_or_domain_does_not_carry_over() -> None:
    head = [wire.VERSION, "credits", KEY.public, msgpack.packb(compact(credit_record().model_dump()))]
    undomained = msgpack.packb([*head, KEY.sign(msgpack.packb(head))])
    assert refusal(undomained) == "signature"


@pytest.mark.parametrize(
    "change",
    [
        {"balance": "5"},
        {"balance": 5.0},
        {"balance": True},
        {"expires_at": 100},
        {"round_id": -1},
        {"round_id": 2**48 + 1},
        {"expires_at": float("nan")},
        {"expires_at": float("inf")},
        {"head_digest": b"\xab" * 32},
        {"head_digest": "AB" * 32},
        {"run_id": "x" * 81},
        {"surprise": 1},
        {"peer_id": "somebody"},
        {"seq": msgpack.Timestamp(1, 1)},
        {"seq": None},
    ],
    ids=str,
)
def test_a_record_has_one_spelling_and_one_schema(change: dict[str, Any]) -> None:
    content = compact({**credit_record().model_dump(exclude_defaults=True), **change})
    assert refusal(forged(content)) in {"schema", "format"}


def test_a_default_that_is_written_out_is_another_spelling() -> None:
    plan = {"run_id": "r", "peer_id": KEY.peer_id, "seq": 1, "expires_at": 1.0, "round_id": 1, "loss": 1.0}
    assert isinstance(unseal(forged(compact(plan), kind="metrics")), Record)
    assert refusal(forged(compact({**plan, "val_loss": None}), kind="metrics")) == "format"


def test_fields_in_another_order_are_another_spelling() -> None:
    content = compact(credit_record().model_dump(exclude_defaults=True))
    assert unseal(forged(content)) == credit_record()
    assert refusal(forged(dict(reversed(content.items())))) == "format"


def test_minus_zero_is_spelled_as_zero() -> None:
    assert credit_record(expires_at=-0.0).expires_at.hex() == "0x0.0p+0"
    content = compact({**credit_record().model_dump(exclude_defaults=True), "expires_at": -0.0})
    assert refusal(forged(content)) == "format"


def test_a_run_document_travels_as_a_map_and_arrives_as_text() -> None:
    document = RunConfig().document()
    record = {"run_id": "r", "peer_id": KEY.peer_id, "seq": 1, "expires_at": 1.0}
    arrived = unseal(seal(RunRecord.model_validate({**record, "document": document}), KEY))
    assert isinstance(arrived, RunRecord)
    assert arrived.document == document
    assert refusal(forged(compact({**record, "document": document}), kind="run")) == "format"


@pytest.mark.parametrize(
    "document",
    [1, [], "[]", "{", '{"a": 1}', '{"b":1,"a":1}', {"a": float("nan")}, {"a": b"x"}, "[" * 5000, None],
    ids=lambda document: str(document)[:20],
)
def test_a_run_document_that_is_no_canonical_json_is_refused(document: Any) -> None:
    record = {"run_id": "r", "peer_id": KEY.peer_id, "seq": 1, "expires_at": 1.0, "document": document}
    assert refusal(forged(msgpack.packb(compact(record)), kind="run")) in {"schema", "format", "size"}
    with pytest.raises(ValueError):
        RunRecord.model_validate(record)


def test_the_largest_roster_fits_a_record() -> None:
    keys = peers(MAX_MEMBERS)
    run = run_of(keys, name="a" * 40)
    changes = {"samples": [2**40] * MAX_MEMBERS, "round_id": 2**40, "term": 2**30, "attempt": 2**30}
    state = next_state(run, genesis_of(run), keys, **changes)
    assert unseal(seal(commit_of(state, keys[0], seq=2**41), keys[0]))
    plan = RoundPlan(
        run_id=run.run_id,
        peer_id=keys[0].peer_id,
        seq=2**41,
        expires_at=1e9,
        round_id=2**40,
        term=2**30,
        attempt=2**30,
        prev_digest="ab" * 32,
        roster=tuple(key.peer_id for key in keys),
        samples=(2**40,) * MAX_MEMBERS,
        avg_loss=2.5,
    )
    assert unseal(seal(plan, keys[0])) == plan


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_with_the_most_founders_fits_a_record(optimizer: str) -> None:
    keys = peers(MAX_MEMBERS)
    run = run_of(keys, name="a" * 40, inner={"optimizer": {"type": optimizer}})
    record = RunRecord(
        run_id=run.run_id, peer_id=keys[0].peer_id, seq=2**41, expires_at=1e9, document=run.document()
    )
    sealed = seal(record, keys[0])
    assert len(sealed) < 3400
    assert unseal(sealed) == record


def test_a_record_that_is_too_large_is_never_sealed() -> None:
    keys = peers(MAX_MEMBERS)
    run = run_of(keys)
    departed = [key.peer_id for key in keys]
    commit = commit_of(next_state(run, genesis_of(run), keys), keys[0], departed=departed)
    with pytest.raises(ValueError, match="the limit"):
        seal(commit, keys[0])


@pytest.mark.parametrize("origin", [[2**48 + 1, 0], [0, -1], [1], [1, 2, 3], ["1", 2], [1.0, 2]], ids=str)
def test_a_plan_names_its_origin_within_bounds(origin: list[Any]) -> None:
    content = {"run_id": "r", "peer_id": KEY.peer_id, "seq": 1, "expires_at": 1.0, "round_id": 1}
    content |= {"term": 3, "attempt": 0, "prev_digest": "ab" * 32, "roster": [KEY.peer_id], "samples": [1]}
    content |= {"avg_loss": 1.0}
    assert unseal(forged(compact({**content, "origin": [1, 2]}), kind="plan"))
    assert refusal(forged(compact({**content, "origin": origin}), kind="plan")) in {"schema", "format"}


def test_expiry_is_checked_on_both_sides() -> None:
    record = credit_record(expires_at=100.0)
    check_expiry(record, now=99.9)
    check_expiry(record, now=100.0 - MAX_AHEAD_S)
    with pytest.raises(RecordRejected, match="expired") as over:
        check_expiry(record, now=100.0)
    assert over.value.reason == "expired"
    with pytest.raises(RecordRejected, match="hour") as early:
        check_expiry(record, now=99.9 - MAX_AHEAD_S)
    assert early.value.reason == "far_future"
