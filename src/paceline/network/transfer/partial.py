"""A state on its way: the file that is being filled, and what of it is still to be asked of whom."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from paceline.network.transfer.protocol import HASH_BYTES, Layout

_MAX_ASKED = 2


class PartialState:
    """The file that a state arrives in. Nothing is written to it that does not match its hash.

    Interrupted transfers need no notes: what the file already holds is recognised by its hashes. So a file
    that holds a state which differs in a few chunks is repaired by fetching those.
    """

    def __init__(self, path: Path, layout: Layout, hashes: bytes) -> None:
        self._layout = layout
        self._hashes = hashes
        self._thread = ThreadPoolExecutor(1, "state")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._found_bytes = os.fstat(self._descriptor).st_size
        try:
            os.ftruncate(self._descriptor, layout.size_bytes)
        except OSError:
            self.close()
            raise

    async def holds(self, index: int) -> bool:
        """Look whether a chunk is here from an earlier transfer.

        Args:
            index: The chunk.

        Returns:
            Whether the file, as it was found, has the right bytes in its place.

        Raises:
            OSError: The file can't be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._holds, index)

    async def write(self, index: int, data: bytes) -> bool:
        """Put a chunk in its place if it is the right one.

        Args:
            index: The chunk.
            data: Untrusted bytes, as many as the chunk has.

        Returns:
            Whether they match the chunk's hash; if not, nothing is written.

        Raises:
            OSError: The file can't be written.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, index, data)

    def close(self) -> None:
        """Let go of the file, once the chunk that is being written is done."""
        self._thread.shutdown(cancel_futures=True)
        os.close(self._descriptor)

    def _holds(self, index: int) -> bool:
        start, length = self._layout.span(index)
        if start + length > self._found_bytes:
            return False
        return self._matches(index, os.pread(self._descriptor, length, start))

    def _write(self, index: int, data: bytes) -> bool:
        if not self._matches(index, data):
            return False
        start, _ = self._layout.span(index)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, start)
            start, view = start + written, view[written:]
        return True

    def _matches(self, index: int, data: bytes) -> bool:
        return hashlib.sha256(data).digest() == self._hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]


class Demand:
    """Which chunks are still wanted, and who was asked for which.

    A chunk is asked of one donor. When nothing is left to ask and somebody lets a chunk wait for longer than
    `patience_s`, one more donor is asked for it, so that one slow donor can't hold up the end.

    Attributes:
        overtaken: Donors that kept a chunk waiting until another had sent it.
    """

    def __init__(self, chunks: Iterable[int], patience_s: float) -> None:
        self._unasked = deque(chunks)
        self._asked: dict[int, dict[str, float]] = {}
        self._patience_s = patience_s
        self._changed = asyncio.Event()
        self.overtaken: set[str] = set()

    @property
    def num_missing(self) -> int:
        """Chunks that are not here yet."""
        return len(self._unasked) + len(self._asked)

    def take(self, donor: str) -> int | None:
        """Choose what to ask next, and note that it is asked.

        Args:
            donor: Whom to ask.

        Returns:
            A chunk, or None when there is nothing to ask of this donor now.
        """
        index = self._unasked.popleft() if self._unasked else self._overdue(donor)
        if index is not None:
            self._asked.setdefault(index, {})[donor] = time.monotonic()
        return index

    def settle(self, index: int, donor: str) -> bool:
        """Note that a chunk is here.

        Args:
            index: The chunk.
            donor: Who sent it.

        Returns:
            Whether it was still missing.
        """
        donors = self._asked.pop(index, {})
        self.overtaken |= {other for other, asked_at in donors.items() if asked_at < donors[donor]}
        self._notify()
        return bool(donors)

    def give_back(self, donor: str) -> None:
        """Note that a donor will not answer any more.

        Args:
            donor: Who.
        """
        for index in [index for index, donors in self._asked.items() if donor in donors]:
            del self._asked[index][donor]
            if not self._asked[index]:
                del self._asked[index]
                self._unasked.append(index)
        self._notify()

    async def more_for(self, donor: str) -> bool:
        """Wait until there is something to ask of a donor.

        Args:
            donor: Who would be asked.

        Returns:
            False when nothing is missing any more.
        """
        while self.num_missing:
            if self._unasked or self._overdue(donor) is not None:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s / 2):
                    await self._changed.wait()
        return False

    def _overdue(self, donor: str) -> int | None:
        before = time.monotonic() - self._patience_s
        for index, donors in self._asked.items():
            if donor not in donors and len(donors) < _MAX_ASKED and max(donors.values()) <= before:
                return index
        return None

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
