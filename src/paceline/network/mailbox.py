"""Questions to a child process and their answers; a child that dies answers everything with `ProcessDied`.

It takes the place of hivemind's `MPFuture`, which would wait for ever then. `MPFuture` also has all processes
of a peer share one lock for their answers: a process killed in the middle of an answer takes the lock along,
and no other ever answers again.

In the asking process:                                in the asked one, which it forks:

    mailbox = Mailbox("child")
    replies = mailbox.open()
    ... fork ...                                      answer_through(replies)
    mailbox.watch()
    future = mailbox.post(pipe.send)                  promise = pipe.recv()
    future.result()                                   promise.set_result(42)
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from paceline.core.errors import ProcessDied

_replies: Connection | None = None
_replying = threading.Lock()


def answer_through(replies: Connection) -> None:
    """Let all promises kept in this process travel this way; called in the asked process, once.

    Args:
        replies: What `Mailbox.open` returned.
    """
    global _replies, _replying
    _replies, _replying = replies, threading.Lock()


class Promise:
    """The asked process's side of a question. It has as much of a future as hivemind's servants use."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept = False

    def done(self) -> bool:
        """Tell whether it has been kept here.

        Returns:
            Whether an answer was given.
        """
        return self._kept

    def set_result(self, result: object) -> None:
        """Answer.

        Args:
            result: Anything that pickles; if it doesn't, the answer is an error that says so.
        """
        try:
            self._keep(pickle.dumps((self._number, True, result)))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            self.set_exception(error)

    def set_exception(self, error: BaseException) -> None:
        """Answer with an error.

        Args:
            error: It is raised in the asking process: itself, or its description when it can't travel.
        """
        try:
            spelled = pickle.dumps((self._number, False, error))
            pickle.loads(spelled)  # some errors can be sent and not received
        except Exception:
            described = RuntimeError(f"{type(error).__name__}: {error}")
            spelled = pickle.dumps((self._number, False, described))
        self._keep(spelled)

    def _keep(self, spelled: bytes) -> None:
        assert _replies is not None, "answer_through was not called in this process"
        self._kept = True
        with _replying:
            _replies.send_bytes(spelled)


class Mailbox:
    """The asking process's side: keeps track of open questions to one process.

    Guarantees:
        A question to a dead process is answered with ProcessDied.
        Questions may be asked from any thread.
    """

    def __init__(self, process_name: str, obituary: Callable[[], ProcessDied] | None = None) -> None:
        """Prepare; `open` and `watch` follow.

        Args:
            process_name: What people call the process.
            obituary: Tells how it died, when more can be known than that.
        """
        self._died = obituary or (lambda: ProcessDied(process_name))
        self._lock = threading.Lock()
        self._open: dict[int, Future[Any]] = {}
        self._asked = 0
        self._closed = False
        self._ends: tuple[Connection, Connection] | None = None

    def open(self) -> Connection:
        """Make the way back; right before the fork, so that no other process gets hold of its sending end.

        Returns:
            The sending end, for `answer_through` in the forked process.
        """
        self._ends = Pipe(duplex=False)
        return self._ends[1]

    def watch(self) -> None:
        """Collect answers from now on, in a thread of its own; right after the fork."""
        assert self._ends is not None, "open was not called"
        incoming, outgoing = self._ends
        outgoing.close()
        threading.Thread(target=self._collect, args=(incoming,), daemon=True, name="answers").start()

    def expect(self) -> tuple[Promise, Future[Any]]:
        """Open a question that needn't be asked, because the forked process knows it from birth.

        Returns:
            What the process must keep, and its answer to come.

        Raises:
            ProcessDied: There is nobody to answer any more.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise self._died()
            self._asked += 1
            self._open[self._asked] = answer
            return Promise(self._asked), answer

    def post(self, send: Callable[[Promise], None]) -> Future[Any]:
        """Ask something.

        Args:
            send: Sends the question with the promise that the process must keep.

        Returns:
            The answer to come.

        Raises:
            ProcessDied: There is nobody to ask.
        """
        promise, answer = self.expect()
        try:  # not under the lock: answers must be collected meanwhile, or two full pipes wait for each other
            send(promise)
        except OSError as error:
            raise self._died() from error
        return answer

    def _collect(self, incoming: Connection) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, worked, content = pickle.loads(incoming.recv_bytes())
                with self._lock:
                    answer = self._open.pop(number, None)
                if answer is not None and answer.set_running_or_notify_cancel():
                    answer.set_result(content) if worked else answer.set_exception(content)
        incoming.close()
        with self._lock:
            self._closed = True
            abandoned, self._open = list(self._open.values()), {}
        died = self._died()
        for answer in abandoned:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(died)
