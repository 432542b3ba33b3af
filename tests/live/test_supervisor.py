"""Claims about a supervised swarm: whichever of a peer's processes dies, the peer is back before long."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from paceline.core.events import PeerRestarting, PeerStarted
from paceline.core.records import CommitRecord
from paceline.core.wire import unseal
from paceline.ledger import LogReader
from paceline.peer.agreement import check_same_chain
from tests.live.swarms import LiveSwarm, children_of, descendants, live_swarm, small_run

pytestmark = pytest.mark.live


def family(main_pid: int) -> dict[str, int]:
    """The processes of one peer."""
    found = {"main": main_pid}
    for child in children_of(main_pid):
        daemons = [pid for pid in children_of(child) if "p2pd" in command(pid)]
        if daemons:
            found["DHT"], found["daemon"] = child, daemons[0]
        elif "paceline" in command(child):  # and not torch's manager of shared memory
            found["averager"] = child
    return found


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/exe").exists()


def rounds_with(swarm: LiveSwarm, name: str) -> int:
    """The last committed round in whose roster the peer is, by the log of another."""
    other = next(other for other in swarm.local.names if other != name)
    reader = LogReader(swarm.states[other].log)
    records = [unseal(link.commit) for link in reader.links(0, 10000)]
    reader.close()
    me, states = swarm.peer_id(name), [r.state for r in records if isinstance(r, CommitRecord)]
    return max((state.round_id for state in states if me in state.participating_nodes), default=0)


def kill_and_see_it_come_back(swarm: LiveSwarm, name: str, which: str) -> str:
    """Kill one process of a peer; returns the reason that its supervisor gave."""
    main = swarm.main_pid(name)
    victims, everything = family(main), descendants(main) | {main}
    assert set(victims) == {"main", "DHT", "daemon", "averager"}
    lives, restarts = len(swarm.events(name, PeerStarted)), len(swarm.events(name, PeerRestarting))
    os.kill(victims[which], signal.SIGKILL)
    swarm.until(lambda: len(swarm.events(name, PeerRestarting)) > restarts)
    swarm.until(lambda: all(is_gone(pid) for pid in everything), 60)
    height = max(map(swarm.height, swarm.local.names))
    swarm.until(lambda: len(swarm.events(name, PeerStarted)) > lives)
    swarm.until(lambda: rounds_with(swarm, name) > height)
    assert swarm.main_pid(name) != main
    assert len(swarm.events(name, PeerRestarting)) == restarts + 1
    return swarm.events(name, PeerRestarting)[-1].cause


def test_whichever_process_of_a_peer_dies_it_comes_back_under_its_name_and_commits_again(
    tmp_path: Path,
) -> None:
    with live_swarm(tmp_path, small_run(rounds=100_000), peers=3, supervised=True) as swarm:
        names = swarm.local.names
        swarm.until(lambda: all(swarm.height(name) >= 1 for name in names))
        seed = swarm.local.pids()["seed"]
        os.kill(seed, signal.SIGKILL)  # who starts again finds the others through the one that follows
        swarm.until(lambda: swarm.local.keep_seed() == "" and swarm.local.pids()["seed"] != seed)

        assert kill_and_see_it_come_back(swarm, "peer-1", "main") == "killed by SIGKILL"
        told = kill_and_see_it_come_back(swarm, "peer-2", "daemon")
        assert told == "this peer's network daemon process died"
        told = kill_and_see_it_come_back(swarm, "peer-3", "averager")
        assert told == "this peer's averager process died"
        assert kill_and_see_it_come_back(swarm, "peer-1", "DHT") == "this peer's DHT process died"

        supervisors = [swarm.local.pids()[name] for name in names]
        everything = {pid for supervisor in supervisors for pid in descendants(supervisor)}
        swarm.local.ask_to_leave()
        swarm.until(lambda: not swarm.local.running())
        swarm.until(lambda: all(is_gone(pid) for pid in everything), 60)
        assert [ended.code for ended in swarm.local.ends()] == [0, 0, 0]
        for name in names:
            assert len({started.peer_id for started in swarm.events(name, PeerStarted)}) == 1
        logs = swarm.logs(*names)
        check_same_chain({swarm.states[name].log: log for name, log in logs.items()})
        assert min(log.rounds for log in logs.values()) > 1
