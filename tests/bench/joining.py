"""Peers that join a running swarm, one after another, as `paceline join` does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from paceline.core.events import StepDone
from paceline.peer.child import COMMAND, Child
from paceline.peer.folders import StateFolder
from tests.live.swarms import live_swarm, small_node, small_run

_LIMIT_S = 240.0


def first_steps_s(folder: Path, count: int) -> Iterator[float]:
    """Let peers join a swarm of two that trains.

    Args:
        folder: Where everything lies.
        count: How many, one after another; each leaves before the next one comes.

    Yields:
        Seconds from the start of its process to its first inner step, for each.
    """
    node = small_node().model_copy(update={"eval_batches": 0})
    with live_swarm(folder / "runs", small_run(rounds=100_000), peers=2, node=node) as swarm:
        swarm.until(lambda: all(swarm.height(name) >= 1 for name in swarm.states))
        for number in range(count):
            name, state = f"joiner-{number}", StateFolder(folder / f"joiner-{number}")
            settings = ["--config", str(swarm.states["peer-1"].settings), "--set", f"state_dir={state.path}"]
            began = time.monotonic()
            child = Child(name, [*COMMAND, "join", str(swarm.folder.handout), *settings], state.output)
            swarm.add(name, state, child)
            swarm.until(lambda name=name: swarm.events(name, StepDone), _LIMIT_S)  # type: ignore[misc]
            yield time.monotonic() - began
            child.ask_to_leave()
            if not child.wait(30.0):
                child.kill()
