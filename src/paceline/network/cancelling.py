"""Word from a process to one that it has forked: stop what I asked of you.

It travels beside the control pipe, because whoever cancels may be a signal handler: it may have interrupted
the very thread that holds the pipe's lock. So a cancel can overtake the order that it is meant for, and the
forked process remembers what it has heard.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe
from struct import Struct

_CANCEL = Struct(">Q33p")
"""A number up to which all work is cancelled, and a key. So short that it is written and read as a whole."""
_REMEMBERED_KEYS = 256


class Cancels:
    """Both sides of the word; made before the fork.

    Guarantees:
        Work may be cancelled from a signal handler.
        A cancel that overtakes its order is not lost.
        A cancel does not hit what is asked later.
    """

    def __init__(self) -> None:
        self._hearing, self._saying = Pipe(duplex=False)
        # A process that stands still must not make us wait; it has hundreds of cancels to read already.
        os.set_blocking(self._saying.fileno(), False)
        self._counting = threading.Lock()
        self._asked = 0
        self._cancelled_up_to = 0
        self._cancelled_keys: dict[bytes, None] = {}
        self._running: dict[int, tuple[bytes, Callable[[], object]]] = {}

    # --- the asking process

    def number(self) -> int:
        """Number the next piece of work, right before it is asked for.

        Returns:
            The number under which to ask for it.
        """
        with self._counting:
            self._asked += 1
            return self._asked

    def cancel_all(self) -> None:
        """Cancel all work that has a number by now. From any thread and any signal handler."""
        self._say(self._asked, b"")

    def cancel_key(self, key: bytes) -> None:
        """Cancel the work of one name, whether it runs or is yet to be asked for.

        Args:
            key: 1 to 32 bytes. The last few hundred are remembered.
        """
        self._say(0, key)

    def _say(self, up_to: int, key: bytes) -> None:
        with suppress(OSError):
            os.write(self._saying.fileno(), _CANCEL.pack(up_to, key))

    # --- the forked process

    def listen(self) -> None:
        """Heed cancels from now on; called in the event loop."""
        asyncio.get_running_loop().add_reader(self._hearing.fileno(), self._hear)

    @contextmanager
    def heeding(self, number: int, cancel: Callable[[], object], key: bytes = b"") -> Iterator[None]:
        """Let work be cancelled while it runs, or at once if it was cancelled before.

        Args:
            number: Its number.
            cancel: Ends it soon; may be called more than once.
            key: Its name, if it has one.

        Yields:
            While it may be cancelled.
        """
        self._running[number] = key, cancel
        if number <= self._cancelled_up_to or key in self._cancelled_keys:
            cancel()
        try:
            yield
        finally:
            del self._running[number]

    def _hear(self) -> None:
        said = os.read(self._hearing.fileno(), 64 * _CANCEL.size)
        for up_to, key in _CANCEL.iter_unpack(said):
            self._cancelled_up_to = max(self._cancelled_up_to, up_to)
            if key:
                self._remember(key)
            for number, (name, cancel) in list(self._running.items()):
                if number <= up_to or (key and name == key):
                    cancel()

    def _remember(self, key: bytes) -> None:
        self._cancelled_keys.pop(key, None)
        self._cancelled_keys[key] = None
        while len(self._cancelled_keys) > _REMEMBERED_KEYS:
            del self._cancelled_keys[next(iter(self._cancelled_keys))]
