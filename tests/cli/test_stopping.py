"""Claims about Ctrl-C: first politely, then firmly, then at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from paceline.cli.stopping import Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_request_is_polite_and_the_second_insists(number: signal.Signals) -> None:
    asked = []
    with Stopping() as stopping:
        stopping.politely(lambda: asked.append(True))
        os.kill(os.getpid(), number)
        assert asked == [True]
        assert stopping.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_before_there_is_a_polite_way_a_request_interrupts() -> None:
    with Stopping() as stopping:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert not stopping.asked


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Stopping():
        pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_the_third_request_ends_a_process_that_hangs_on_its_way_out() -> None:
    program = """
import os, signal
from paceline.cli.stopping import Stopping
with Stopping() as stopping:
    stopping.politely(lambda: None)
    os.kill(os.getpid(), signal.SIGINT)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        print("never reached")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
