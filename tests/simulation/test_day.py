"""Claims about the simulator itself."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

from paceline.core.signing import public_key_of
from paceline.simulate.day import Day, live_through
from paceline.simulate.faults import Trouble
from paceline.simulate.many import Tally, live_through_many
from paceline.simulate.peer import VirtualPeer
from paceline.simulate.swarm import VirtualSwarm, peer_name, virtual_run

_TELL = """
from paceline.simulate.day import live_through
live_through(11, tell=lambda *what: print(*what))
"""


def told(hash_seed: str) -> str:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ran = subprocess.run([sys.executable, "-c", _TELL], env=environment, capture_output=True, check=True)
    return ran.stdout.decode()


def test_a_seed_tells_the_same_day_in_every_process() -> None:
    assert told("1") == told("2") != ""


def test_watching_a_day_does_not_change_it() -> None:
    lines: list[str] = []
    watched = live_through(7, tell=lambda now, peer, what: lines.append(what))
    assert watched == live_through(7)
    assert any(line.startswith("commits round") for line in lines)


def test_a_replay_names_peers_in_order_and_marks_what_is_done_to_them() -> None:
    told: list[tuple[str, str]] = []
    day = live_through(9, tell=lambda now, name, what: told.append((name, what)))
    names = {name for name, _ in told}
    assert {f"p{number}" for number in range(day.peers)} <= names
    assert any(not name and "dies" in what for name, what in told)
    assert not any("12D3Koo" in what for _, what in told)
    for name in names - {""}:
        said = [what for who, what in told if who == name]
        assert all(one != other for one, other in pairwise(said))  # nothing is said twice in a row


def test_different_seeds_are_different_days() -> None:
    days = [live_through(seed) for seed in range(4)]
    assert len({day.events for day in days}) == 4


def test_several_processes_live_through_the_same_days_as_one() -> None:
    alone = list(live_through_many(range(4), (3, 5), 1))
    together = sorted(live_through_many(range(4), (3, 5), 2), key=lambda day: day.seed)
    assert alone == together


def test_a_tally_keeps_broken_days_apart() -> None:
    tally = Tally()
    tally.add(Day(seed=1, peers=3, rounds=2, recovery_s=5.0))
    tally.add(Day(seed=2, peers=3, violation="the chain verifies", what="it does not", recovery_s=90.0))
    assert (tally.days, tally.rounds, tally.recovery_s(1.0)) == (2, 2, 5.0)
    assert [day.seed for day in tally.violations] == [2]


def test_virtual_peers_have_ids_like_real_ones() -> None:
    assert len(public_key_of(peer_name(3))) == 32


def test_a_peer_that_is_made_to_leave_while_it_leaves_comes_back_once() -> None:
    swarm = VirtualSwarm(1, virtual_run(3))
    trouble = Trouble(swarm, 3, first_ambush=0)
    leaver = swarm.peers[peer_name(0)]
    dismissed: list[object] = []

    def ambush(peer: VirtualPeer, doing: object) -> None:
        if not dismissed:
            dismissed.append(doing)
            trouble._dismiss(peer)

    swarm.run(lambda: False, 0.4)
    swarm.before = ambush
    trouble._dismiss(leaver)
    assert dismissed and not leaver.alive
    trouble.make_peace()
    assert swarm.run(lambda: swarm.witness.height >= 1, 60)


def test_a_restarted_peer_numbers_its_records_after_those_of_its_last_life() -> None:
    # As on the real board: with a clock that was set back, whatever it says would be taken for old news.
    swarm = VirtualSwarm(5, virtual_run(3))
    for number in range(3):
        swarm.start(peer_name(number))
    assert swarm.run(lambda: swarm.witness.height >= 2, 100)
    dies = swarm.peers[peer_name(0)]
    swarm.crash(dies)
    dies.skew_s = -30.0
    last = {kind: swarm.board.latest(kind, dies.peer_id) for kind in ("peer", "receipt")}
    swarm.start(dies.peer_id, dies.disk)
    height = swarm.witness.height
    assert swarm.run(lambda: swarm.witness.height >= height + 2, 100)
    for kind, before in last.items():
        after = swarm.board.latest(kind, dies.peer_id)
        assert before is not None and after is not None
        assert after.seq > before.seq and after.expires_at > before.expires_at
