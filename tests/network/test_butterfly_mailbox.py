"""Questions to a child process, and what becomes of them when it dies."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pytest

from paceline.core.errors import ProcessDied, ReduceFailed
from paceline.network.hardening import SafePipe
from paceline.network.mailbox import Mailbox, answer


async def _echo(question: Any) -> Any:
    if isinstance(question, Exception):
        raise question
    return question


def _child(questions: Connection, answers: Connection) -> None:
    while True:
        number, question = questions.recv()
        if question != "say nothing":
            answers.send_bytes(asyncio.run(_answered(number, question)))


async def _answered(number: int, question: Any) -> bytes:
    return await answer(number, _echo(question))


@dataclass
class Child:
    process: Any
    pipe: SafePipe
    mailbox: Mailbox

    def ask(self, question: object) -> Any:
        return self.mailbox.post(lambda number: self.pipe.send((number, question)))


@pytest.fixture
def child() -> Iterator[Child]:
    forks = multiprocessing.get_context("fork")
    (theirs, ours), (answers, their_answers) = forks.Pipe(duplex=False), forks.Pipe(duplex=False)
    process = forks.Process(target=_child, args=(theirs, their_answers), daemon=True)
    process.start()
    theirs.close()
    their_answers.close()
    mailbox = Mailbox("child")
    mailbox.watch(answers)
    yield Child(process, SafePipe(ours), mailbox)
    process.kill()
    process.join()
    ours.close()


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
    with pytest.raises(ReduceFailed) as raised:
        child.ask(ReduceFailed("a clause", "somebody")).result(30.0)
    assert (raised.value.cause, raised.value.blamed) == ("a clause", "somebody")
