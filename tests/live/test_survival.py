"""Claims about real swarms: what is left of one goes on, and whoever joins late is let in."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paceline.core.chain import Link
from paceline.core.events import RoundCommitted, StateFetched
from paceline.core.records import CommitRecord
from paceline.core.wire import unseal
from paceline.ledger import LogReader
from paceline.peer.child import Child
from paceline.peer.folders import StateFolder
from tests.live.swarms import (
    COMMAND,
    LiveSwarm,
    descendants,
    live_swarm,
    seed_address,
    small_run,
)

pytestmark = pytest.mark.live


def committed_rosters(swarm: LiveSwarm, name: str) -> dict[int, list[str]]:
    reader = LogReader(swarm.states[name].log)
    links: list[Link] = reader.links(0, 1000)
    reader.close()
    records = [unseal(link.commit) for link in links]
    return {r.state.round_id: r.state.participating_nodes for r in records if isinstance(r, CommitRecord)}


def assert_one_chain(swarm: LiveSwarm, *names: str) -> None:
    logs = swarm.logs(*names)
    assert len({log.head_digest for log in logs.values()}) == 1
    assert {log.rounds for log in logs.values()} == {swarm.run.rounds}


def test_the_rest_goes_on_after_a_member_and_then_the_coordinator_are_killed(tmp_path: Path) -> None:
    with live_swarm(tmp_path, small_run(rounds=9), peers=4) as swarm:
        names = set(swarm.local.names)
        swarm.until(lambda: all(swarm.height(name) >= 2 for name in names))

        member = next(name for name in sorted(names) if name != swarm.coordinator())
        orphans = descendants(swarm.local.pids()[member])
        assert len(orphans) >= 3  # the DHT, the averager and the daemon
        swarm.kill(member)
        killed_at, height = time.monotonic(), max(map(swarm.height, names))
        names.remove(member)
        swarm.until(lambda: all(swarm.height(name) > height for name in names))
        print(f"a round was committed {time.monotonic() - killed_at:.1f} s after a member was killed")
        swarm.until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in orphans), 30)

        coordinator = swarm.coordinator()
        swarm.kill(coordinator)
        killed_at, height = time.monotonic(), max(map(swarm.height, names))
        names.remove(coordinator)
        swarm.until(lambda: all(swarm.height(name) > height for name in names))
        print(f"a round was committed {time.monotonic() - killed_at:.1f} s after the coordinator was killed")

        swarm.until(lambda: not swarm.local.running())
        assert_one_chain(swarm, *names)


def test_a_fifth_peer_joins_a_running_swarm_with_nothing_but_a_multiaddr(tmp_path: Path) -> None:
    with live_swarm(tmp_path, small_run(rounds=14), peers=4) as swarm:
        swarm.until(lambda: swarm.height("peer-1") >= 2)
        state = StateFolder(tmp_path / "late")
        settings = swarm.states["peer-1"].settings
        command = ["join", seed_address(swarm), "--config", str(settings), "--set", f"state_dir={state.path}"]
        swarm.add("late", state, Child("late", [*COMMAND, *command], state.output))

        swarm.until(lambda: swarm.events("late", StateFetched))
        fetched = swarm.events("late", StateFetched)[0]
        assert fetched.donors
        swarm.until(lambda: swarm.events("late", RoundCommitted))
        first = swarm.events("late", RoundCommitted)[0]
        late = swarm.peer_id("late")
        rosters = committed_rosters(swarm, "late")
        entered = min(round_id for round_id, roster in rosters.items() if late in roster)
        assert entered <= fetched.round_id + 2
        assert first.round_id <= fetched.round_id + 2

        swarm.until(lambda: not swarm.local.running())
        swarm.until(lambda: swarm.extra[0].exit_code() is not None)
        assert_one_chain(swarm, "late", *swarm.local.names)
