"""Questions to a child process, and what becomes of them when it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pytest

from paceline.core.errors import ProcessDied, RecordRejected
from paceline.network.hardening import SafePipe
from paceline.network.mailbox import Mailbox, Promise, answer_through


class Untransportable(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def _child(questions: Connection, replies: Connection, born_with: Promise) -> None:
    answer_through(replies)
    born_with.set_result("up")
    while True:
        promise, question = questions.recv()
        if isinstance(question, Exception):
            promise.set_exception(question)
        elif question == "a stubborn error":
            promise.set_exception(Untransportable("one", "two"))
        elif question == "a secret":
            promise.set_result(threading.Lock())
        elif question != "say nothing":
            promise.set_result(question)


@dataclass
class Child:
    process: Any
    pipe: SafePipe
    mailbox: Mailbox
    up: Future[Any]

    def ask(self, question: object) -> Future[Any]:
        return self.mailbox.post(lambda promise: self.pipe.send((promise, question)))


@pytest.fixture
def child() -> Iterator[Child]:
    forks = multiprocessing.get_context("fork")
    theirs, ours = forks.Pipe(duplex=False)
    mailbox = Mailbox("child")
    promise, up = mailbox.expect()
    process = forks.Process(target=_child, args=(theirs, mailbox.open(), promise), daemon=True)
    process.start()
    theirs.close()
    mailbox.watch()
    yield Child(process, SafePipe(ours), mailbox, up)
    process.kill()
    process.join()
    ours.close()


def test_a_process_may_answer_what_it_knows_from_birth(child: Child) -> None:
    assert child.up.result(30.0) == "up"


def test_questions_may_be_asked_from_any_thread(child: Child) -> None:
    answers: dict[int, object] = {}

    def ask(number: int) -> None:
        answers[number] = child.ask(bytes([number]) * 200_000).result(30.0)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {number: bytes([number]) * 200_000 for number in range(8)}


def test_a_question_to_a_dead_process_is_answered_with_processdied(child: Child) -> None:
    waiting = child.ask("say nothing")
    os.kill(child.process.pid, signal.SIGKILL)
    with pytest.raises(ProcessDied):
        waiting.result(30.0)
    child.process.join()
    with pytest.raises(ProcessDied):
        child.ask("anybody there?").result(30.0)


def test_errors_arrive_as_they_were(child: Child) -> None:
    with pytest.raises(RecordRejected) as raised:
        child.ask(RecordRejected("flood", "a clause")).result(30.0)
    assert (raised.value.reason, raised.value.cause) == ("flood", "a clause")


def test_an_error_that_cannot_travel_arrives_as_its_description(child: Child) -> None:
    with pytest.raises(RuntimeError, match="Untransportable: one two"):
        child.ask("a stubborn error").result(30.0)


def test_a_result_that_cannot_travel_becomes_an_error(child: Child) -> None:
    with pytest.raises(TypeError, match="pickle"):
        child.ask("a secret").result(30.0)


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(child: Child) -> None:
    assert child.ask("say nothing").cancel()
    assert child.ask("still there?").result(30.0) == "still there?"
