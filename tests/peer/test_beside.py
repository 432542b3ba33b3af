"""Claims about work that runs beside training."""

from __future__ import annotations

import threading

import pytest

from paceline.peer.beside import Beside


def test_jobs_run_one_after_the_other_while_the_caller_goes_on() -> None:
    beside, gate, done = Beside(), threading.Event(), list[str]()

    def first() -> None:
        assert gate.wait(10)
        done.append("first")

    beside.begin(first)
    beside.begin(lambda: done.append("second"))
    assert beside.is_busy and done == []
    gate.set()
    beside.wait()
    assert done == ["first", "second"] and not beside.is_busy


def test_a_jobs_error_reaches_whoever_waits_for_it_and_jobs_after_it_are_not_begun() -> None:
    beside, gate, done = Beside(), threading.Event(), list[str]()

    def fails() -> None:
        assert gate.wait(10)
        raise OSError("the disk is full")

    beside.begin(fails)
    beside.begin(lambda: done.append("never"))
    gate.set()
    with pytest.raises(OSError, match="the disk is full"):
        beside.wait()
    assert done == []
    beside.check()  # it is told once
    beside.begin(lambda: done.append("later"))
    beside.wait()
    assert done == ["later"]
