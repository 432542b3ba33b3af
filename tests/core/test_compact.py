"""Compact packing is one to one, and unpacking strangers' bytes never does more than refuse them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.compact import MAX_DEPTH, compact, expand
from paceline.core.records import Phase
from tests.core.strategies import IDS, few

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=70),
    st.sampled_from(IDS),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(compact(value))
    return packed


@few
@given(values)
def test_unpacking_gives_back_what_was_packed(value: Any) -> None:
    try:
        assert expand(pack(value)) == value
    except ValueError as error:
        assert "too deep" in str(error)


@few
@given(values)
def test_packing_what_was_unpacked_gives_the_same_bytes(value: Any) -> None:
    packed = pack(value)
    try:
        again = expand(packed)
    except ValueError:
        return
    assert pack(again) == packed


@few
@given(st.binary(max_size=200))
def test_random_bytes_are_unpacked_or_refused(packed: bytes) -> None:
    with contextlib.suppress(ValueError):
        expand(packed)


def test_a_peer_id_and_a_digest_take_their_raw_size() -> None:
    assert len(pack(IDS[0])) == len(pack("ab" * 32)) == 35


@pytest.mark.parametrize("text", ["AB" * 32, "g" * 64, "ab" * 31, "12D3Koo" + "0" * 45, "12D3Koo" + "1" * 45])
def test_text_that_only_looks_like_a_digest_or_peer_id_stays_text(text: str) -> None:
    assert compact(text) == text
    assert expand(pack(text)) == text


def test_an_enumeration_travels_as_its_value() -> None:
    assert expand(pack({"phase": Phase.TRAIN})) == {"phase": "train"}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100, 500, 900, 1023, 5000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
def test_deep_nesting_is_refused_and_nothing_else_happens(depth: int, opening: bytes) -> None:
    with pytest.raises(ValueError):
        expand(opening * depth + b"\x00")


def test_records_may_nest_as_deep_as_the_limit() -> None:
    assert expand(b"\x91" * MAX_DEPTH + b"\x00")


@pytest.mark.parametrize(
    "packed",
    [
        msgpack.packb(msgpack.ExtType(1, bytes(31))),
        msgpack.packb(msgpack.ExtType(2, bytes(31))),
        msgpack.packb(msgpack.ExtType(3, bytes(32))),
        msgpack.packb({1: 2}),
        msgpack.packb("a")[:1],
        msgpack.packb(1) + b"\x00",
        b"",
        b"\xc1",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd7\xff" + b"\xff" * 8,
    ],
    ids=[
        *(
            "short key",
            "short digest",
            "unknown extension",
            "number as key",
            "cut",
            "trailing byte",
            "nothing",
        ),
        *("reserved byte", "broken text", "4 billion items", "4 GB of bytes", "absurd timestamp"),
    ],
)
def test_what_is_no_packed_record_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):
        expand(packed)
