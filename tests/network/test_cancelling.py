"""Cancels that come in time, too early, too late, and from a signal handler."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from types import FrameType
from typing import Any

import pytest
import uvloop

from paceline.network.cancelling import Cancels

KEY, OTHER = b"\x01\x00", b"\x01"
NAMES = {"the longest key": bytes(range(32)), "a key that ends in zeros": KEY, "one byte": OTHER}


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in the averager's process
        runner.run(work)


async def heard(cancels: Cancels) -> None:
    """Wait until all that was said has been heard: the last word is one that can be seen."""
    ended = asyncio.Event()
    last = os.urandom(32)
    with cancels.heeding(2**40, ended.set, last):
        cancels.cancel_key(last)
        async with asyncio.timeout(10.0):
            await ended.wait()


class Work:
    """Something to be cancelled, and whether it was."""

    def __init__(self, number: int, key: bytes = b"") -> None:
        self.number, self.key, self.cancelled = number, key, False

    def cancel(self) -> None:
        self.cancelled = True

    async def live(self, cancels: Cancels) -> bool:
        with cancels.heeding(self.number, self.cancel, self.key):
            await heard(cancels)
        return self.cancelled


def test_all_that_was_asked_for_is_cancelled_and_nothing_else() -> None:
    async def scene() -> None:
        cancels = Cancels()
        cancels.listen()
        works = [Work(cancels.number()), Work(cancels.number(), KEY)]
        with (
            cancels.heeding(works[0].number, works[0].cancel),
            cancels.heeding(works[1].number, works[1].cancel, KEY),
        ):
            await heard(cancels)
            assert [work.cancelled for work in works] == [False, False]
            cancels.cancel_all()
            await heard(cancels)
        assert [work.cancelled for work in works] == [True, True]

    run(scene())


@pytest.mark.parametrize("key", NAMES.values(), ids=NAMES)
def test_a_key_cancels_its_own_work_only(key: bytes) -> None:
    async def scene() -> None:
        cancels = Cancels()
        cancels.listen()
        works = [Work(cancels.number(), name) for name in (*NAMES.values(), b"")]
        cancels.cancel_key(key)
        lived = [await work.live(cancels) for work in works]
        assert lived == [work.key == key for work in works]

    run(scene())


def test_a_cancel_that_overtakes_its_order_is_not_lost() -> None:
    async def scene() -> None:
        cancels = Cancels()
        cancels.listen()
        numbered, named = Work(cancels.number()), Work(cancels.number() + 1, KEY)
        cancels.cancel_all()
        cancels.cancel_key(KEY)
        await heard(cancels)
        for work in (numbered, named):
            with cancels.heeding(work.number, work.cancel, work.key):
                assert work.cancelled  # at once

    run(scene())


def test_a_cancel_does_not_hit_what_is_asked_later() -> None:
    async def scene() -> None:
        cancels = Cancels()
        cancels.listen()
        cancels.number()
        cancels.cancel_all()
        cancels.cancel_key(KEY)
        assert not await Work(cancels.number(), OTHER).live(cancels)

    run(scene())


def test_what_is_remembered_is_bounded_and_the_latest_stays() -> None:
    async def scene() -> None:
        cancels = Cancels()
        cancels.listen()
        for number in range(5000):
            cancels.cancel_key(number.to_bytes(32, "big"))
            if number % 500 == 0:
                await heard(cancels)
        await heard(cancels)
        assert len(cancels._cancelled_keys) < 1000
        assert await Work(cancels.number(), (4999).to_bytes(32, "big")).live(cancels)

    run(scene())


def test_whoever_cancels_never_waits_for_a_process_that_stands_still() -> None:
    cancels = Cancels()
    began = time.monotonic()
    for _ in range(5000):
        cancels.cancel_all()
    assert time.monotonic() - began < 5.0


def test_work_may_be_cancelled_from_a_signal_handler() -> None:
    cancels, fired = Cancels(), 0

    def cancel(signum: int, frame: FrameType | None) -> None:
        nonlocal fired
        fired += 1
        cancels.cancel_all()

    before = signal.signal(signal.SIGALRM, cancel)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        deadline = time.monotonic() + 20.0
        while fired < 500:  # interrupted at many places, also while the lock is held
            cancels.number()
            assert time.monotonic() < deadline
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
