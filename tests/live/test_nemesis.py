"""The most telling faults of `scripts/nemesis`, done to a live swarm: no promise may break.

Seconds are not looked at: the machine may be busy with other tests. `docs/reliability.md` has them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nemesis.catalogue import FAULTS
from tests.nemesis.running import Runner

pytestmark = pytest.mark.live
CHOSEN = ("coordinator-killed-in-commit", "p2pd-killed", "sigstop-in-train", "power-cut-in-attest")


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One swarm for all of them, or a new one after a fault that left it unwhole."""
    with Runner(peers=4, say=print) as running:
        yield running


@pytest.mark.parametrize("name", CHOSEN)
def test_no_promise_breaks_when(name: str, runner: Runner) -> None:
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    (outcome,) = runner.run([fault])
    assert not outcome.skipped
    assert not outcome.wrong, outcome
    assert (outcome.lost, outcome.drift) == (0, 0)
