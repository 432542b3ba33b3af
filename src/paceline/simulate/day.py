"""One bad day: some virtual seconds of trouble, then peace, in which a round must commit in time.

Most days belong to an endless run with founders. On one day in eight the run ends, perhaps in the midst of
trouble, and on another its founders are not named.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from paceline.core.rounds import RoundMachine
from paceline.simulate.faults import Trouble
from paceline.simulate.swarm import Tell, VirtualSwarm, virtual_run
from paceline.simulate.witness import Violation

PATIENCE_S = 90.0
"""How long after the last fault a round must have committed, in virtual seconds."""


ENDLESS, ENDING, UNNAMED = "endless", "ending", "without founders"
_KINDS = (ENDING, UNNAMED, *(ENDLESS,) * 6)  # by their share of days


@dataclass(frozen=True)
class Day:
    """How a day went.

    Attributes:
        seed: Which day.
        peers: Identities at its beginning.
        kind: What sort of run it is a day of.
        overlaps: Whether training goes on while rounds are exchanged.
        rounds: Rounds committed.
        virtual_s: Its length in virtual seconds.
        recovery_s: Virtual seconds from the last fault to a commit that everybody has.
        events: Events that happened.
        faults: Names of what was done to it.
        rivalries: How often one coordinator has planned while there was another.
        violation: The promise that was broken, or "".
        what: How.
    """

    seed: int
    peers: int
    kind: str = ENDLESS
    overlaps: bool = False
    rounds: int = 0
    virtual_s: float = 0.0
    recovery_s: float = 0.0
    events: int = 0
    faults: tuple[str, ...] = ()
    rivalries: int = 0
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
    kind = rng.choice(_KINDS)
    overlaps = Random(seed * 104729 + 2).random() < 0.5
    rounds = (rng.randint(2, 5) if kind == ENDING else 100_000) * (2 if overlaps else 1)
    run = virtual_run(num_peers, named=kind != UNNAMED, rounds=rounds, overlaps=overlaps)
    swarm = VirtualSwarm(seed, run, machine_type)
    swarm.tell = tell
    violation, what, quiet_at = "", "", 0.0
    trouble = Trouble(swarm, num_peers, first_ambush=seed)
    try:
        swarm.run(lambda: False, rng.uniform(15.0, 35.0))
        trouble.make_peace()
        quiet_at = swarm.now
        _recover(swarm)
    except Violation as broken:
        violation, what = broken.invariant, swarm.in_words(str(broken))
        swarm.note(what)
    return Day(
        seed=seed,
        peers=num_peers,
        kind=kind,
        overlaps=overlaps,
        rounds=swarm.witness.height,
        virtual_s=swarm.now,
        recovery_s=swarm.now - quiet_at,
        events=swarm.num_events,
        faults=tuple(sorted(trouble.faults)),
        rivalries=swarm.num_rivalries,
        violation=violation,
        what=what,
    )


def _recover(swarm: VirtualSwarm) -> None:
    swarm.note("nothing goes wrong any more")
    height = swarm.witness.height
    goal = min(height + 1, swarm.config.rounds)
    if not swarm.run(lambda: _has_recovered(swarm, goal), PATIENCE_S):
        raise Violation(
            "rounds go on", f"no commit {PATIENCE_S:.0f} s after the last fault; {swarm.describe()}"
        )


def _has_recovered(swarm: VirtualSwarm, goal: int) -> bool:
    if swarm.witness.height < goal:
        return False
    reached = [peer.machine.standing.head.round_id >= goal for peer in swarm.up()]
    # When the run is complete, whoever stands on its end leaves. A peer that came back after all others had
    # left, or that has lost its state since, is on its own.
    return all(reached) if goal < swarm.config.rounds else not any(reached)
