"""The digest of a buffer does not depend on how it is cut."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core import digest
from paceline.core.digest import ChunkedDigest, chunk_hashes, digest_of
from tests.core.strategies import few


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real megabyte would let hypothesis never cross a border.
    monkeypatch.setattr(digest, "CHUNK_BYTES", 16)


@few
@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=6))
def test_any_split_gives_the_digest_of_the_whole(data: bytes, cuts: list[int]) -> None:
    chunked = ChunkedDigest()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(borders):
        chunked.update(data[start:end])
    assert chunked.hexdigest() == digest_of(chunk_hashes(data))


@few
@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_changed_byte_changes_the_digest(data: bytes, more: st.DataObject) -> None:
    position = more.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[position] ^= more.draw(st.integers(1, 255))
    assert digest_of(chunk_hashes(changed)) != digest_of(chunk_hashes(data))


def test_each_chunk_is_hashed_on_its_own() -> None:
    data = bytes(range(40))
    expected = [hashlib.sha256(data[start : start + 16]).digest() for start in (0, 16, 32)]
    assert chunk_hashes(data) == expected
    assert digest_of(expected) == hashlib.sha256(b"".join(expected)).hexdigest()


def test_an_unfinished_digest_can_be_read_and_continued() -> None:
    chunked = ChunkedDigest()
    chunked.update(b"abc")
    assert chunked.hexdigest() == digest_of(chunk_hashes(b"abc"))
    chunked.update(b"d" * 30)
    assert chunked.hexdigest() == digest_of(chunk_hashes(b"abc" + b"d" * 30))


def test_nothing_has_a_digest_too() -> None:
    assert ChunkedDigest().hexdigest() == digest_of(chunk_hashes(b"")) == hashlib.sha256(b"").hexdigest()


def test_a_whole_chunk_leaves_no_empty_one_behind() -> None:
    chunked = ChunkedDigest()
    chunked.update(bytes(32))
    assert chunked.hashes == chunk_hashes(bytes(32))
    assert chunked.hexdigest() == digest_of(chunk_hashes(bytes(32)))


def test_the_real_chunk_is_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert digest.CHUNK_BYTES == 1 << 20
    assert len(chunk_hashes(bytes((1 << 20) + 1))) == 2


def test_a_buffer_of_wider_items_is_hashed_by_its_bytes() -> None:
    wide = memoryview(bytes(range(64))).cast("I")
    chunked = ChunkedDigest()
    chunked.update(wide)
    assert chunked.hexdigest() == digest_of(chunk_hashes(wide)) == digest_of(chunk_hashes(bytes(range(64))))
