"""What travels: bounded, one spelling, and nothing else accepted."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.chain import Link
from paceline.core.digest import CHUNK_BYTES, chunk_hashes
from paceline.network.transfer.partial import Demand, PartialState
from paceline.network.transfer.protocol import (
    MAX_PAGE_BYTES,
    MAX_PAGE_LINKS,
    MAX_RECEIPTS,
    MAX_REQUEST_BYTES,
    ChunkRequest,
    HashesRequest,
    Layout,
    LinksRequest,
    Pace,
    Request,
    pack_links,
    pack_request,
    unpack_links,
    unpack_request,
)

counts = st.integers(0, 2**48)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(HashesRequest, round_id=counts, weights_digest=digests),
    st.builds(ChunkRequest, round_id=counts, weights_digest=digests, index=st.integers(0, 2**31 - 1)),
    st.builds(LinksRequest, after_round=counts, limit=st.integers(1, MAX_PAGE_LINKS)),
)
sealed = st.binary(max_size=200)
links = st.lists(st.builds(Link, commit=sealed, receipts=st.lists(sealed, max_size=5).map(tuple)), max_size=5)


@given(requests)
def test_a_request_survives_the_way(request: Request) -> None:
    packed = pack_request(request)
    assert len(packed) - 2 <= MAX_REQUEST_BYTES
    assert unpack_request(packed[2:]) == request


@given(links)
def test_a_page_of_history_survives_the_way(page: list[Link]) -> None:
    assert unpack_links(pack_links(page)) == page


@given(st.binary(max_size=MAX_REQUEST_BYTES))
def test_bytes_from_anywhere_are_a_request_or_a_value_error(body: bytes) -> None:
    for unpack in (unpack_request, unpack_links):
        try:
            unpack(body)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "page",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x00\x10\x00" * 500,
        msgpack.packb({"commit": b""}),
        msgpack.packb([[b"commit"]]),
        msgpack.packb([["commit", []]]),
        msgpack.packb([[b"commit", [7]]]),
        msgpack.packb([[b"commit", b"receipts"]]),
        msgpack.packb([[bytes(4096), []]]),
        msgpack.packb([[b"commit", [bytes(4096)]]]),
        msgpack.packb([[b"commit", [b"receipt"] * (MAX_RECEIPTS + 1)]]),
        msgpack.packb(7),
    ],
)
def test_a_malformed_page_of_history_is_refused(page: bytes) -> None:
    with pytest.raises(ValueError, match="malformed page"):
        unpack_links(page)


def test_a_page_holds_the_largest_honest_link() -> None:
    link = Link(commit=bytes(4095), receipts=(bytes(4095),) * MAX_RECEIPTS)
    page = pack_links([link, link])
    assert MAX_PAGE_BYTES / 2 < len(page) <= MAX_PAGE_BYTES
    assert unpack_links(page) == [link]


@given(st.integers(1, 5 * CHUNK_BYTES))
def test_chunks_cover_a_state_without_gap_or_overlap(num_elements: int) -> None:
    layout = Layout(num_elements)
    end = 0
    for index in range(layout.num_chunks):
        start, length = layout.span(index)
        assert start == end
        assert 0 < length <= CHUNK_BYTES
        end = start + length
    assert end == layout.size_bytes == 8 * num_elements


def test_chunks_are_those_of_the_digests() -> None:
    anchor, momentum = bytes(CHUNK_BYTES + 4), b"\x01" * (CHUNK_BYTES + 4)
    layout = Layout(len(anchor) // 4)
    spans = [layout.span(index) for index in range(layout.num_chunks)]
    state = anchor + momentum
    hashes = [hashlib.sha256(state[start : start + length]).digest() for start, length in spans]
    assert hashes == chunk_hashes(anchor) + chunk_hashes(momentum)


def test_a_pace_without_a_rate_never_waits() -> None:
    async def take() -> None:
        async with asyncio.timeout(1):
            await Pace(None).take(10**12)

    asyncio.run(take())


def test_only_chunks_that_match_are_written(tmp_path: Path) -> None:
    data = b"\x01" * 8
    hashes = hashlib.sha256(data[:4]).digest() + hashlib.sha256(data[4:]).digest()

    async def fill() -> None:
        state = PartialState(tmp_path / "state", Layout(1), hashes)
        try:
            assert not await state.write(0, b"\x02" * 4)
            assert await state.write(1, b"\x01" * 4)
            assert not await state.holds(1)  # as the file was found, it was empty
        finally:
            state.close()
        again = PartialState(tmp_path / "state", Layout(1), hashes)
        try:
            assert [await again.holds(index) for index in (0, 1)] == [False, True]
        finally:
            again.close()

    asyncio.run(fill())
    assert (tmp_path / "state").read_bytes() == b"\x00" * 4 + b"\x01" * 4


def test_a_chunk_is_asked_of_one_donor_until_it_is_overdue() -> None:
    patient, hasty = Demand([0], patience_s=60.0), Demand([0], patience_s=0.0)
    assert [patient.take(donor) for donor in "abc"] == [0, None, None]
    assert [hasty.take(donor) for donor in "abc"] == [0, 0, None]
    assert hasty.take("a") is None
    assert hasty.settle(0, "b")
    assert not hasty.settle(0, "a")
    assert hasty.overtaken <= {"a"}
    assert hasty.num_missing == 0


def test_what_a_dropped_donor_owed_is_asked_again() -> None:
    demand = Demand([0, 1], patience_s=60.0)
    assert [demand.take("a"), demand.take("b"), demand.take("b")] == [0, 1, None]
    demand.give_back("a")
    assert demand.take("b") == 0
    assert demand.num_missing == 2


def test_a_donor_with_nothing_to_do_wakes_for_what_another_gives_back() -> None:
    async def wait() -> tuple[bool, bool]:
        demand = Demand([0], patience_s=60.0)
        demand.take("a")
        waiting = asyncio.create_task(demand.more_for("b"))
        await asyncio.sleep(0)
        demand.give_back("a")
        async with asyncio.timeout(5):
            more = await waiting
        demand.take("b")
        demand.settle(0, "b")
        return more, await demand.more_for("a")

    assert asyncio.run(wait()) == (True, False)
