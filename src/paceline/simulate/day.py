"""One bad day: some virtual seconds of trouble, then peace, in which a round must commit in time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from paceline.core.rounds import RoundMachine
from paceline.simulate.faults import Trouble
from paceline.simulate.swarm import Tell, VirtualSwarm, virtual_run
from paceline.simulate.witness import Violation

PATIENCE_S = 90.0
"""How long after the last fault a round must have committed, in virtual seconds."""


@dataclass(frozen=True)
class Day:
    """How a day went.

    Attributes:
        seed: Which day.
        peers: Identities at its beginning.
        rounds: Rounds committed.
        virtual_s: Its length in virtual seconds.
        recovery_s: Virtual seconds from the last fault to a commit that everybody has.
        events: Events that happened.
        violation: The promise that was broken, or "".
        what: How.
    """

    seed: int
    peers: int
    rounds: int = 0
    virtual_s: float = 0.0
    recovery_s: float = 0.0
    events: int = 0
    violation: str = ""
    what: str = ""


def live_through(
    seed: int,
    peers: tuple[int, int] = (3, 12),
    *,
    machine_type: type[RoundMachine] = RoundMachine,
    tell: Tell | None = None,
) -> Day:
    """Simulate one day.

    Args:
        seed: Decides everything.
        peers: The least and the largest number of founders.
        machine_type: The round machine, or one with a planted mistake.
        tell: Is told what happens.

    Returns:
        How it went.
    """
    rng = Random(seed * 7919 + 1)
    num_peers = rng.randint(*peers)
    swarm = VirtualSwarm(seed, virtual_run(num_peers), machine_type)
    swarm.tell = tell
    violation, what, quiet_at = "", "", 0.0
    try:
        trouble = Trouble(swarm, num_peers)
        swarm.run(lambda: False, rng.uniform(15.0, 35.0))
        trouble.make_peace()
        quiet_at = swarm.now
        _recover(swarm)
    except Violation as broken:
        violation, what = broken.invariant, str(broken)
        swarm.note(what)
    return Day(
        seed=seed,
        peers=num_peers,
        rounds=swarm.witness.height,
        virtual_s=swarm.now,
        recovery_s=swarm.now - quiet_at,
        events=swarm.num_events,
        violation=violation,
        what=what,
    )


def _recover(swarm: VirtualSwarm) -> None:
    swarm.note("nothing goes wrong any more")
    height = swarm.witness.height
    if not swarm.run(lambda: _has_recovered(swarm, height), PATIENCE_S):
        raise Violation(
            "rounds go on", f"no commit {PATIENCE_S:.0f} s after the last fault; {swarm.describe()}"
        )


def _has_recovered(swarm: VirtualSwarm, height: int) -> bool:
    if swarm.witness.height <= height:
        return False
    return all(peer.disk.head.round_id > height for peer in swarm.peers.values() if peer.alive)
