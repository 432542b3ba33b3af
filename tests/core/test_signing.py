"""Peer ids contain keys, and signatures need nothing else."""

from __future__ import annotations

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from paceline.core.signing import PeerId, SigningKey, peer_id_of, public_key_of, short, verify
from tests.core.strategies import few

KEY = SigningKey.from_seed(bytes(32))


@few
@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_gives_its_key_back(public: bytes) -> None:
    peer_id = peer_id_of(public)
    assert peer_id.startswith("12D3Koo")
    assert len(peer_id) == 52
    assert public_key_of(peer_id) == public


@few
@given(st.binary(max_size=64), st.binary(min_size=32, max_size=32))
def test_a_signature_holds_for_its_message_and_signer_only(message: bytes, seed: bytes) -> None:
    key = SigningKey.from_seed(seed)
    signature = key.sign(message)
    assert verify(key.peer_id, message, signature)
    assert not verify(key.peer_id, message + b"\x00", signature)
    other = SigningKey.from_seed(bytes([seed[0] ^ 1]) + seed[1:])
    assert not verify(other.peer_id, message, signature)


def test_any_flipped_byte_of_a_signature_is_noticed() -> None:
    signature = KEY.sign(b"hello")
    for position in range(64):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        assert not verify(KEY.peer_id, b"hello", bytes(flipped))


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(65)], ids=len)
def test_a_signature_of_the_wrong_length_is_just_wrong(signature: bytes) -> None:
    assert not verify(KEY.peer_id, b"hello", signature)


@pytest.mark.parametrize("text", ["", "peer", "Ünïcode", "0OIl", "12D3KooW", "Q" * 1000, KEY.peer_id[:-1]])
def test_what_contains_no_key_is_no_peer_id(text: str) -> None:
    with pytest.raises(ValueError):
        public_key_of(text)
    assert not verify(text, b"hello", KEY.sign(b"hello"))


@pytest.mark.parametrize("spelling", ["1" + KEY.peer_id, KEY.peer_id + " ", KEY.peer_id + "\n"])
def test_a_peer_id_has_one_spelling(spelling: str) -> None:
    with pytest.raises(ValueError):
        public_key_of(spelling)


def test_an_rsa_peer_id_is_refused() -> None:
    rsa = base58.b58encode(bytes.fromhex("1220") + bytes(32)).decode()
    with pytest.raises(ValueError, match="Ed25519"):
        public_key_of(rsa)


def test_a_key_of_the_wrong_length_has_no_peer_id() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        peer_id_of(bytes(31))


def test_a_model_takes_only_real_peer_ids() -> None:
    adapter = TypeAdapter(PeerId)
    assert adapter.validate_python(KEY.peer_id) == KEY.peer_id
    with pytest.raises(ValidationError):
        adapter.validate_python("somebody")


def test_a_seed_makes_the_same_key_every_time() -> None:
    assert SigningKey.from_seed(KEY.seed).peer_id == KEY.peer_id
    assert KEY.peer_id == "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def test_the_short_name_is_the_part_that_differs() -> None:
    assert short(KEY.peer_id) == "x6nXTN"
    assert KEY.peer_id.endswith(short(KEY.peer_id))
