"""What a donor has on its shelves, and how it is read without stopping the event loop."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paceline.core.chain import Link
from paceline.network.transfer.protocol import Layout, pack_links

_KEPT_HASH_LISTS = 4


@dataclass(frozen=True)
class StateFile:
    """Where one result of a round lies on disk.

    Attributes:
        path: An immutable file; it may be deleted while it is served, never changed.
        offset: Where in it the data begins, in bytes.
        num_elements: Float32 values in the anchor, and as many in the momentum that follows it.
    """

    path: Path
    offset: int
    num_elements: int


class Library(Protocol):
    """What a donor has to give. Called in the averager's child process, always on one and the same thread."""

    def state(self, round_id: int, weights_digest: str) -> StateFile | None:
        """Find a result of a round: its committed state, or one that was staged by any of its attempts.

        Args:
            round_id: The round.
            weights_digest: The anchor's digest, 64 hexadecimal digits.

        Returns:
            Where it lies, or None when it is not here.
        """

    def links(self, after_round: int, limit: int) -> list[Link]:
        """Read history.

        Args:
            after_round: The round before the first one wanted.
            limit: How many rounds at most.

        Returns:
            Links in order, one per round, without a gap; empty when there are none.
        """


class OpenState:
    """A state file that is kept open, so that deleting it does no harm.

    Attributes:
        name: Round and anchor's digest, by which it was asked for.
        layout: Where its chunks lie.
        key: Tells this very file from any other, an overwritten one included.
    """

    def __init__(self, name: tuple[int, str], file: StateFile) -> None:
        self.name = name
        self.layout = Layout(file.num_elements)
        self._offset = file.offset
        self._descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        self.key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, file.offset)

    def duplicate(self) -> OpenState:
        """Open the same file once more, whether or not it still has a name.

        Returns:
            A state to be closed on its own.
        """
        twin = copy.copy(self)
        twin._descriptor = os.dup(self._descriptor)
        return twin

    def chunk(self, index: int) -> bytes:
        """Read a chunk.

        Args:
            index: Its number, below `layout.num_chunks`.

        Returns:
            Its bytes.

        Raises:
            OSError: The file is shorter than it should be, or can't be read.
        """
        start, length = self.layout.span(index)
        data = os.pread(self._descriptor, length, self._offset + start)
        if len(data) != length:
            raise OSError(f"the state file ends {length - len(data)} bytes too early")
        return data

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class Shelves:
    """A library read from an event loop: one thread for the library, hash lists computed once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        # Threads start with the first look-up: this object is made before the averager forks.
        self._librarian = ThreadPoolExecutor(1, "library")
        self._hash_lists: dict[tuple[int, ...], asyncio.Task[bytes]] = {}

    async def open(self, round_id: int, weights_digest: str) -> OpenState | None:
        """Open a result of a round.

        Args:
            round_id: The round.
            weights_digest: The anchor's digest.

        Returns:
            The state, to be closed by the caller, or None when it is not here.
        """
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(self._librarian, self._library.state, round_id, weights_digest)
        return OpenState((round_id, weights_digest), file) if file is not None else None

    async def links(self, after_round: int, limit: int) -> bytes:
        """Read a page of history.

        Args:
            after_round: The round before the first one wanted.
            limit: How many rounds at most.

        Returns:
            As many links as fit a page, packed.
        """

        def look_up() -> bytes:
            return pack_links(self._library.links(after_round, limit)[:limit])

        return await asyncio.get_running_loop().run_in_executor(self._librarian, look_up)

    async def hashes(self, state: OpenState) -> bytes:
        """Hash each chunk of a state, once for all who ask.

        Args:
            state: An open state.

        Returns:
            The 32-byte hashes of the anchor's chunks and then of the momentum's.
        """
        task = self._hash_lists.get(state.key)
        if task is None or (task.done() and task.exception() is not None):
            while len(self._hash_lists) >= _KEPT_HASH_LISTS:
                del self._hash_lists[next(iter(self._hash_lists))]
            hashing = asyncio.to_thread(_hash_and_close, state.duplicate())
            task = self._hash_lists[state.key] = asyncio.create_task(hashing)
        return await asyncio.shield(task)  # who stops waiting doesn't stop the work for the others


def _hash_and_close(state: OpenState) -> bytes:
    try:
        return b"".join(
            hashlib.sha256(state.chunk(index)).digest() for index in range(state.layout.num_chunks)
        )
    finally:
        state.close()
