"""The taking side of a transfer: state and history from several donors, none of whom is trusted.

Both functions run in the process that owns the connection to the network daemon; their arguments, results and
errors can be pickled.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from hivemind.p2p import P2P
from pydantic import ValidationError

from paceline.core.chain import Link
from paceline.core.digest import digest_of
from paceline.core.errors import TransferFailed
from paceline.core.nicknames import named
from paceline.network.transfer.inquiry import DonorFault, Inquiry, inquire
from paceline.network.transfer.partial import Demand, PartialState
from paceline.network.transfer.protocol import (
    HASH_BYTES,
    MAX_PAGE_BYTES,
    MAX_PAGE_LINKS,
    ChunkRequest,
    HashesRequest,
    Layout,
    LinksRequest,
    Pace,
    unpack_links,
)
from paceline.network.transfer.terms import (
    FetchedHistory,
    FetchOutcome,
    HistoryWant,
    StateWant,
    TransferLimits,
)

_IN_FLIGHT = 4
"""Chunks asked of one donor at once: enough to fill 300 Mbit/s at 100 ms."""
_HASHED_PER_S = 100e6
"""Bytes that a slow donor hashes in a second, before it can answer with the hashes of a state."""
_REMEDY = "it can be tried again when other peers are up; what has arrived is kept"


async def fetch_history(
    p2p: P2P, donors: Sequence[str], prefix: str, want: HistoryWant, limits: TransferLimits
) -> FetchedHistory:
    """Take history from the first donor that has any.

    Guarantees:
        A donor without an answer is passed over.
        History is bounded in number and size.

    Args:
        p2p: This process's connection to the network daemon.
        donors: Peer ids, in the order in which to ask them.
        prefix: The run's namespace.
        want: What to fetch.
        limits: How long to wait.

    Returns:
        Links that nobody has verified yet: pass them to `paceline.core.chain.check_link`, and leave out the
        donor next time if they fail. A donor that breaks off is blamed in `dropped`, yet its links count.

    Raises:
        TransferFailed: No donor answered. Names what was wrong with each.
    """
    subject = f"the history after round {want.after_round}"
    dropped: dict[str, str] = {}
    donors = _others(p2p, donors)
    try:
        async with asyncio.timeout(limits.total_s):
            for donor in donors:
                links: list[Link] = []
                try:
                    async with inquire(p2p, donor, prefix, limits.stall_s) as inquiry:
                        async for page in _pages(inquiry, want):
                            links += page
                except DonorFault as fault:
                    dropped[donor] = str(fault)
                if links:
                    return FetchedHistory(tuple(links), donor, dropped)
    except TimeoutError:
        raise TransferFailed(_blame(subject, dropped, limits.total_s), _REMEDY) from None
    if len(dropped) == len(donors):
        raise TransferFailed(_blame(subject, dropped), _REMEDY)
    return FetchedHistory((), "", dropped)


async def fetch_state(
    p2p: P2P, donors: Sequence[str], prefix: str, want: StateWant, into: Path, limits: TransferLimits
) -> FetchOutcome:
    """Take a state from several donors at once.

    Guarantees:
        Nothing that does not match the digests is written.
        A donor that lies, stalls, or sends too much, too little or nothing is dropped and named.
        A chunk that a donor owes is asked elsewhere.
        A slow donor does not hold up the others.
        A transfer that was interrupted asks only for what is missing.

    Args:
        p2p: This process's connection to the network daemon.
        donors: Peer ids, in the order in which to ask them; shuffle them, to spread the load of many joiners.
        prefix: The run's namespace.
        want: The state, with the digests that it must match.
        into: Where to put it: the anchor's bytes and then the momentum's. Chunks that it already holds are
            kept, so pass the same file after a failure.
        limits: How long to wait, and how fast to take.

    Returns:
        What it took; `into` then matches both digests.

    Raises:
        TransferFailed: No donor is left, the time is over, or `into` can't be written. Names what was wrong
            with each donor.
    """
    started = time.monotonic()
    fetch = _StateFetch(p2p, prefix, want, limits)
    try:
        async with asyncio.timeout(limits.total_s):
            await fetch.run(_others(p2p, donors), into)
    except TimeoutError:
        raise TransferFailed(_blame(fetch.subject, fetch.dropped, limits.total_s), _REMEDY) from None
    except OSError as error:
        raise TransferFailed(
            f"{into} can't be written: {error.strerror or error}",
            "free some space, or choose another state_dir",
        ) from error
    return FetchOutcome(
        seconds=time.monotonic() - started,
        size_bytes=fetch.layout.size_bytes,
        fetched_bytes=fetch.fetched_bytes,
        donors=dict(fetch.delivered),
        dropped=fetch.dropped,
    )


class _StateFetch:
    """One transfer of one state: hash lists first, then one worker per donor on a shared demand."""

    def __init__(self, p2p: P2P, prefix: str, want: StateWant, limits: TransferLimits) -> None:
        self.layout = Layout(want.num_elements)
        self.dropped: dict[str, str] = {}
        self.delivered: Counter[str] = Counter()
        self.fetched_bytes = 0
        self._inquire = partial(inquire, p2p, prefix=prefix, stall_s=limits.stall_s)
        self._want = want
        self._limits = limits
        self._pace = Pace(limits.bytes_per_s)
        self._seats = asyncio.Semaphore(limits.donors)
        self._num_here = 0

    @property
    def subject(self) -> str:
        return (
            f"the state of round {self._want.round_id}"
            f" ({self._num_here} of {self.layout.num_chunks} chunks are here)"
        )

    async def run(self, donors: list[str], into: Path) -> None:
        hashes = await self._hash_lists(donors)
        with closing(PartialState(into, self.layout, hashes)) as state:
            missing = [index for index in range(self.layout.num_chunks) if not await state.holds(index)]
            self._num_here = self.layout.num_chunks - len(missing)
            demand = Demand(missing, self._limits.stall_s / 4)
            workers = [
                asyncio.create_task(self._take_from(donor, demand, state))
                for donor in donors
                if donor not in self.dropped
            ]
            try:
                for worker in asyncio.as_completed(workers):
                    await worker
                    if not demand.num_missing:
                        return
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                self._name_idlers(demand)
            if demand.num_missing:
                raise TransferFailed(_blame(self.subject, self.dropped), _REMEDY)

    async def _hash_lists(self, donors: list[str]) -> bytes:
        want, extra_s = self._want, self.layout.size_bytes / _HASHED_PER_S
        try:
            request = HashesRequest(round_id=want.round_id, weights_digest=want.weights_digest)
        except ValidationError:  # a vote may be anybody's
            cause = f"{self.subject} can't be fetched: {want.weights_digest[:64]!r} is no digest"
            raise TransferFailed(cause, "whoever names such a state has none") from None
        for donor in donors:
            try:
                async with self._inquire(donor) as inquiry:
                    inquiry.ask(request)
                    hashes = await inquiry.answer(self.layout.hashes_bytes, extra_s=extra_s)
                self._check(hashes)
                return hashes
            except DonorFault as fault:
                self.dropped[donor] = str(fault)
        raise TransferFailed(_blame(self.subject, self.dropped), _REMEDY)

    def _check(self, hashes: bytes) -> None:
        half = HASH_BYTES * self.layout.half_chunks
        digests = digest_of([hashes[:half]]), digest_of([hashes[half:]])
        if digests != (self._want.weights_digest, self._want.momentum_digest):
            raise DonorFault("sent chunk hashes that do not match the commit's digests")

    async def _take_from(self, donor: str, demand: Demand, state: PartialState) -> None:
        try:
            async with self._seats:
                while await demand.more_for(donor):
                    async with self._inquire(donor) as inquiry:
                        await self._exchange(inquiry, donor, demand, state)
        except DonorFault as fault:
            self.dropped[donor] = str(fault)
        finally:
            demand.give_back(donor)

    async def _exchange(self, inquiry: Inquiry, donor: str, demand: Demand, state: PartialState) -> None:
        owed: deque[int] = deque()
        while demand.num_missing:
            while len(owed) < _IN_FLIGHT and (index := demand.take(donor)) is not None:
                await self._pace.take(self.layout.span(index)[1])
                inquiry.ask(self._chunk(index))
                owed.append(index)
            if not owed:
                return
            index = owed.popleft()
            data = await inquiry.answer(self.layout.span(index)[1], tag=index)
            if not await state.write(index, data):
                raise DonorFault(f"sent wrong bytes in chunk {index}")
            if demand.settle(index, donor):
                self._count(donor, len(data))

    def _chunk(self, index: int) -> ChunkRequest:
        want = self._want
        return ChunkRequest(round_id=want.round_id, weights_digest=want.weights_digest, index=index)

    def _name_idlers(self, demand: Demand) -> None:
        for donor in demand.overtaken - self.delivered.keys() - self.dropped.keys():
            self.dropped[donor] = "kept its chunks waiting until others had sent them"

    def _count(self, donor: str, size_bytes: int) -> None:
        self.delivered[donor] += 1
        self.fetched_bytes += size_bytes
        self._num_here += 1


async def _pages(inquiry: Inquiry, want: HistoryWant) -> AsyncIterator[list[Link]]:
    num_links, size_bytes = 0, 0
    while num_links < want.max_links and size_bytes + MAX_PAGE_BYTES <= want.max_bytes:
        limit = min(MAX_PAGE_LINKS, want.max_links - num_links)
        inquiry.ask(LinksRequest(after_round=want.after_round + num_links, limit=limit))
        page = await inquiry.answer(None)
        try:
            links = unpack_links(page)
        except ValueError as error:
            raise DonorFault(f"sent {error}") from error
        if len(links) > limit:
            raise DonorFault(f"sent {len(links)} links where {limit} were asked for")
        if not links:
            return
        yield links
        num_links += len(links)
        size_bytes += len(page)


def _others(p2p: P2P, donors: Sequence[str]) -> list[str]:
    own = p2p.peer_id.to_base58()
    return [donor for donor in dict.fromkeys(donors) if donor != own]


def _blame(subject: str, dropped: dict[str, str], out_of_time_s: float | None = None) -> str:
    faults = [f"{named(donor)} {cause}" for donor, cause in dropped.items()]
    if out_of_time_s is not None:
        faults.insert(0, f"it took longer than {out_of_time_s:.3g} s")
    return f"{subject} could not be fetched: {'; '.join(faults) or 'no other peer is known'}"
