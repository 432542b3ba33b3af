"""A visitor on a swarm's board that notes how long each call takes it.

    python -m tests.bench.visitor HANDOUT COUNT

It is a client of the DHT, as `paceline status` and every monitor are: it stores nothing for others. Prints
seconds as JSON: of storing a record, of getting it back, and of a look at all that a peer reads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from paceline.peer.settings import load_handout
from tests.network.boards import boards

LOOK = ("peer", "plan", "receipt", "commit")
"""What a peer reads when it looks at the board."""
_PAUSE_S = 0.05
"""Between two triples: a visitor that never pauses measures the load that it makes."""


def visit(handout: Path, count: int) -> dict[str, list[float]]:
    """Store, get and look by turns.

    Args:
        handout: The swarm's.
        count: How often each.

    Returns:
        Seconds of each call, by `store`, `get` and `look`. A record that was stored and not seen afterwards
        counts as one of `lost`, with the seconds of the get.
    """
    swarm = load_handout(handout)
    taken: dict[str, list[float]] = {"store": [], "get": [], "look": [], "lost": []}
    with boards() as started:
        started.seeds = list(swarm.seeds)
        me = started.peer(client_mode=True, host_maddrs=["/ip4/127.0.0.1/tcp/0"])
        # What a board published itself is no news to it: another one, of the same node, looks for it.
        me.board, reader = me.view(run_id=swarm.run_id), me.view(run_id=swarm.run_id)
        for number in range(count + 1):
            stored_s = _timed(lambda number=number: me.post(number, run_id=swarm.run_id))  # type: ignore[misc]
            seen: dict[str, int] = {}
            got_s = _timed(lambda seen=seen: seen.update(me.balances(reader)))  # type: ignore[misc]
            looked_s = _timed(lambda: reader.read(LOOK))
            time.sleep(_PAUSE_S)
            if number == 0:
                continue  # the first calls open connections
            taken["store"].append(stored_s)
            taken["get"].append(got_s)
            taken["look"].append(looked_s)
            if seen.get(me.key.peer_id) != number:
                taken["lost"].append(got_s)
    return taken


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(visit(Path(sys.argv[1]), int(sys.argv[2]))))
