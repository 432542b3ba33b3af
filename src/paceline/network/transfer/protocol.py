"""State and history between peers: what is asked, what is answered, and how it lies on a stream.

A commit pins two digests, so whoever knows a commit can take the state that it describes from anybody. The
fetcher gets the two lists of chunk hashes first, checks them against the digests, and from then on checks
every chunk on its own; the donor serves chunks from an immutable file.

One libp2p stream carries a conversation: requests one way, and to each exactly one answer the other way, in
the same order. The fetcher ends it by closing, so that no last message is lost when the daemon resets the
stream of a donor that hangs up.

    request:  length (2 bytes, big-endian), msgpack map of at most `MAX_REQUEST_BYTES`
    answer:   kind (1), tag (4), length (4), body; the tag repeats a chunk's index and is 0 elsewhere

Nothing is unpickled, and no length from the network is believed: both sides know beforehand how long a
message may be.

    >>> unpack_request(pack_request(ChunkRequest(round_id=3, weights_digest="ab" * 32, index=7))[2:]).index
    7
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, Literal

import msgpack
from pydantic import Field, TypeAdapter, ValidationError

from paceline.core.chain import Link
from paceline.core.digest import CHUNK_BYTES
from paceline.core.records import MAX_MEMBERS, Count, Frozen
from paceline.core.wire import MAX_RECORD_BYTES

MAX_REQUEST_BYTES = 256
"""No honest request is longer."""
MAX_REFUSAL_BYTES = 200
"""No honest refusal is longer."""
MAX_PAGE_BYTES = 1 << 20
"""Links travel in pages of at most so many bytes; the largest honest link has about half."""
MAX_PAGE_LINKS = 64
"""Links per page."""
MAX_RECEIPTS = 2 * MAX_MEMBERS
"""Receipts per link: the members of a round and those of the round before may both vote."""
HASH_BYTES = 32
"""Size of one chunk's SHA-256."""
DATA, REFUSED = 0, 1
"""Kinds of answer; a refusal's body is text, and ends the conversation."""
ANSWER = Struct(">BII")
"""Head of an answer: kind, tag, length."""
REQUEST = Struct(">H")
"""Head of a request: length."""
_WeightsDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HashesRequest(Frozen):
    """Ask for the chunk hashes of a state: those of the anchor, then those of the momentum."""

    type: Literal["hashes"] = "hashes"
    """Kind of request."""
    round_id: Count
    """The round that it is a result of."""
    weights_digest: _WeightsDigest
    """Its anchor's digest: one round can have several results, of which at most one is ever committed."""


class ChunkRequest(Frozen):
    """Ask for one chunk of a state."""

    type: Literal["chunk"] = "chunk"
    """Kind of request."""
    round_id: Count
    """The round that it is a result of."""
    weights_digest: _WeightsDigest
    """Its anchor's digest: one round can have several results, of which at most one is ever committed."""
    index: Annotated[int, Field(ge=0, lt=2**31)]
    """Counts the anchor's chunks and then the momentum's."""


class LinksRequest(Frozen):
    """Ask for a page of history."""

    type: Literal["links"] = "links"
    """Kind of request."""
    after_round: Count
    """The last commit that the asker has."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_LINKS)]
    """How many links at most."""


Request = HashesRequest | ChunkRequest | LinksRequest
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="type")])


def stream_name(prefix: str) -> str:
    """Name the libp2p protocol of a run's transfers.

    Args:
        prefix: The run's namespace.

    Returns:
        The name that donors register and fetchers call.
    """
    return f"{prefix}::StateServer.converse"


def pack_request(request: Request) -> bytes:
    """Spell a request for the stream.

    Args:
        request: The request.

    Returns:
        Length and body.
    """
    body: bytes = msgpack.packb(request.model_dump())
    return REQUEST.pack(len(body)) + body


def unpack_request(body: bytes) -> Request:
    """Parse a request from whomever.

    Args:
        body: Untrusted bytes, at most `MAX_REQUEST_BYTES`, without the length.

    Returns:
        The request.

    Raises:
        ValueError: It is none.
    """
    try:
        return _REQUESTS.validate_python(msgpack.unpackb(body), strict=True)
    except (ValidationError, ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("a malformed request") from error


def pack_links(links: list[Link]) -> bytes:
    """Spell a page of history.

    Args:
        links: Links in order.

    Returns:
        A page of at most `MAX_PAGE_BYTES` with as many of the links as fit.
    """
    packer = msgpack.Packer()
    rows: list[bytes] = []
    size = 0
    for link in links[:MAX_PAGE_LINKS]:
        row = packer.pack([link.commit, list(link.receipts)])
        if size + len(row) + 8 > MAX_PAGE_BYTES:
            break
        rows.append(row)
        size += len(row)
    return bytes(packer.pack_array_header(len(rows))) + b"".join(rows)


def unpack_links(page: bytes) -> list[Link]:
    """Parse a page of history. Its links are well-formed and of a bearable size, but still to be verified.

    Args:
        page: Untrusted bytes, at most `MAX_PAGE_BYTES`.

    Returns:
        Links in order.

    Raises:
        ValueError: It is no page.
    """
    try:
        # Bounded, since the parser sets memory aside for as many items as a list claims to have.
        rows = msgpack.unpackb(page, max_array_len=MAX_RECEIPTS, max_map_len=0, max_str_len=0)
        return [_link(commit, receipts) for commit, receipts in rows]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("a malformed page of history") from error


def _link(commit: object, receipts: object) -> Link:
    if not isinstance(receipts, list) or len(receipts) > MAX_RECEIPTS:
        raise ValueError("a link holds a list of receipts")
    for sealed in (commit, *receipts):
        if not isinstance(sealed, bytes) or len(sealed) >= MAX_RECORD_BYTES:
            raise ValueError("a link holds sealed records")
    return Link(commit=commit, receipts=tuple(receipts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """Where the chunks of a state lie: anchor first, then momentum, each chunked on its own.

    Attributes:
        num_elements: Float32 values in the anchor, and as many in the momentum.
    """

    num_elements: int

    @property
    def half_bytes(self) -> int:
        """Size of the anchor, and of the momentum."""
        return 4 * self.num_elements

    @property
    def size_bytes(self) -> int:
        """Size of the state."""
        return 2 * self.half_bytes

    @property
    def half_chunks(self) -> int:
        """Chunks of the anchor, and of the momentum."""
        return -(-self.half_bytes // CHUNK_BYTES)

    @property
    def num_chunks(self) -> int:
        """Chunks of the state."""
        return 2 * self.half_chunks

    @property
    def hashes_bytes(self) -> int:
        """Size of both lists of chunk hashes."""
        return HASH_BYTES * self.num_chunks

    def span(self, index: int) -> tuple[int, int]:
        """Find a chunk.

        Args:
            index: Its number, below `num_chunks`.

        Returns:
            Its offset within the state and its length, in bytes.
        """
        half, within = divmod(index, self.half_chunks)
        start = within * CHUNK_BYTES
        return half * self.half_bytes + start, min(CHUNK_BYTES, self.half_bytes - start)


class Pace:
    """Spreads bytes over time so that they stay below a rate.

    Whoever takes first goes first; after a pause a quarter of a second's worth may go at once.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may travel.

        Args:
            size_bytes: How many.
        """
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        start = max(self._free_at, now - 0.25)
        self._free_at = start + size_bytes / self._bytes_per_s
        await asyncio.sleep(max(0.0, self._free_at - now))
