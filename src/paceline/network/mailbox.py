"""Questions to a child process and their answers; a child that dies answers everything with `ProcessDied`.

Hivemind's `MPFuture` would wait for ever then. And it holds a lock that all processes of the peer share: a
process killed at the wrong moment would stop the rest.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from paceline.core.errors import ProcessDied


class Mailbox:
    """Keeps track of open questions in the asking process.

    Guarantees:
        A question to a dead process is answered with ProcessDied.
        Questions may be asked from any thread.
    """

    def __init__(self, process_name: str) -> None:
        self._process_name = process_name
        self._lock = threading.Lock()
        self._open: dict[int, Future[Any]] = {}
        self._asked = 0
        self._closed = False

    def watch(self, incoming: Connection) -> None:
        """Collect answers from now on, in a thread of its own.

        Args:
            incoming: What the process answers on. No other process may hold its sending end.
        """
        threading.Thread(target=self._collect, args=(incoming,), daemon=True, name="answers").start()

    def post(self, send: Callable[[int], None]) -> Future[Any]:
        """Ask something.

        Args:
            send: Sends the question; gets the number that the answer must bear.

        Returns:
            The answer to come.

        Raises:
            ProcessDied: There is nobody to ask.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise ProcessDied(self._process_name)
            self._asked += 1
            number = self._asked
            self._open[number] = answer
        try:  # not under the lock: answers must be collected meanwhile, or two full pipes wait for each other
            send(number)
        except OSError as error:
            with self._lock:
                self._open.pop(number, None)
            raise ProcessDied(self._process_name) from error
        return answer

    def _collect(self, incoming: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, worked, content = pickle.loads(incoming.recv_bytes())
                with self._lock:
                    answer = self._open.pop(number, None)
                if answer is None:
                    continue
                if worked:
                    answer.set_result(content)
                else:
                    answer.set_exception(content)
        with self._lock:
            self._closed = True
            abandoned, self._open = list(self._open.values()), {}
        for answer in abandoned:
            answer.set_exception(ProcessDied(self._process_name))


async def answer(number: int, work: Awaitable[Any]) -> bytes:
    """Do what was asked, in the asked process, and spell the answer.

    Args:
        number: The question's number.
        work: What was asked.

    Returns:
        The answer for `Mailbox`: the result, or the error. An error that can't travel goes as its
        description.
    """
    try:
        return _travelling(number, True, await work)
    except Exception as error:
        try:
            return _travelling(number, False, error)
        except Exception:
            return pickle.dumps((number, False, RuntimeError(f"{type(error).__name__}: {error}")))


def _travelling(number: int, worked: bool, content: object) -> bytes:
    spelled = pickle.dumps((number, worked, content))
    if not worked:
        pickle.loads(spelled)  # some errors can be sent and not received
    return spelled
