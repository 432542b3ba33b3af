"""Digests of large buffers that can be checked chunk by chunk.

The digest of a buffer is the SHA-256 over the concatenated SHA-256s of its chunks of `CHUNK_BYTES`. Whoever
knows the digest can check the list of chunk hashes, and with the list each chunk on its own as it arrives
from any donor.

    >>> digest_of(chunk_hashes(b"abc")) == digest_of(chunk_hashes(b"abc"))
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

CHUNK_BYTES = 1 << 20
"""Size of one chunk in bytes; the last one may be shorter."""


def chunk_hashes(data: bytes | bytearray | memoryview) -> list[bytes]:
    """Hash each chunk of a buffer.

    Args:
        data: The whole buffer, contiguous bytes.

    Returns:
        One 32-byte SHA-256 per chunk, in order; an empty list for an empty buffer.
    """
    view = memoryview(data).cast("B")
    return [
        hashlib.sha256(view[start : start + CHUNK_BYTES]).digest()
        for start in range(0, len(view), CHUNK_BYTES)
    ]


def digest_of(hashes: Iterable[bytes]) -> str:
    """Fold chunk hashes into one digest.

    Args:
        hashes: What `chunk_hashes` returned, in order.

    Returns:
        64 lower-case hexadecimal digits.
    """
    return hashlib.sha256(b"".join(hashes)).hexdigest()


class ChunkedDigest:
    """The same digest, computed while the buffer passes by in pieces of any size.

    Attributes:
        hashes: The 32-byte hash of every chunk that is already full.
    """

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self._open = hashlib.sha256()
        self._room = CHUNK_BYTES

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the buffer.

        Args:
            data: Any number of contiguous bytes.
        """
        view = memoryview(data).cast("B")
        while len(view):
            piece = view[: self._room]
            self._open.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if self._room == 0:
                self._close_chunk()

    def hexdigest(self) -> str:
        """Finish.

        Returns:
            The digest of all bytes taken so far, as `digest_of` gives it.
        """
        tail = [self._open.digest()] if self._room < CHUNK_BYTES else []
        return digest_of([*self.hashes, *tail])

    def _close_chunk(self) -> None:
        self.hashes.append(self._open.digest())
        self._open = hashlib.sha256()
        self._room = CHUNK_BYTES
