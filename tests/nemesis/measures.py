"""What came out of a fault, worked out from what the peers told and from their logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from paceline.core.events import (
    DriftDetected,
    PeerStarted,
    RoundCommitted,
    StateFetched,
    StepDone,
    WentBackToAnchor,
)
from paceline.peer.tail import Told

Tales = Mapping[str, Sequence[Told]]
"""What each peer told, by its name."""
Chain = Mapping[int, str]
"""Digests of commits by round."""


def stood_on(tale: Iterable[Told], round_id: int) -> float | None:
    """When a peer first stood on a round or a later one."""
    return next(
        (
            t.time
            for t in tale
            if isinstance(t.event, RoundCommitted | StateFetched) and t.event.round_id >= round_id
        ),
        None,
    )


def closed_s(tales: Tales, round_id: int, since: float) -> float | None:
    """Seconds from a moment until all of these peers stood on a round.

    Returns:
        0 if they all did before; None if one never did.
    """
    times = [stood_on(tale, round_id) for tale in tales.values()]
    known = [time for time in times if time is not None]
    return max(0.0, max(known) - since) if known and len(known) == len(times) else None


def seen_commits(tales: Tales) -> dict[int, set[str]]:
    """Every commit that any peer has applied, by round: more than one digest is a fork."""
    seen: dict[int, set[str]] = {}
    for tale in tales.values():
        for told in tale:
            if isinstance(told.event, RoundCommitted):
                seen.setdefault(told.event.round_id, set()).add(told.event.digest)
    return seen


def last_commit(tales: Tales, until: float = float("inf")) -> int:
    """The last round that any of these peers had committed at a moment."""
    rounds = [
        t.event.round_id
        for tale in tales.values()
        for t in tale
        if isinstance(t.event, RoundCommitted) and t.time <= until
    ]
    return max(rounds, default=0)


def trained(tale: Iterable[Told], batch: int) -> dict[int, int]:
    """Sequences that a peer told it trained on, by round, in whichever of its lives trained on the most."""
    most: dict[int, int] = {}
    now: dict[int, int] = {}
    for told in tale:
        if isinstance(told.event, PeerStarted):
            now = {}
        elif isinstance(told.event, StepDone):
            now[told.event.round_id] = now.get(told.event.round_id, 0) + batch
            most[told.event.round_id] = max(now[told.event.round_id], most.get(told.event.round_id, 0))
    return most


def unearned(credited: Mapping[int, int], done: Mapping[int, int]) -> list[int]:
    """Rounds for which a peer got more credit than it trained: its part came from somewhere else."""
    return sorted(round_id for round_id, samples in credited.items() if samples > done.get(round_id, 0))


def missing_rounds(tales: Tales, chain: Chain) -> list[int]:
    """Rounds that somebody applied and that are not, or not as they were, in the chain that survived."""
    seen = seen_commits(tales)
    return sorted(round_id for round_id, digests in seen.items() if digests != {chain.get(round_id)})


def rounds_begun_anew(tales: Tales, since: float) -> set[int]:
    """Rounds in which a peer, in one life, trained again what it had trained already."""
    found: set[int] = set()
    for tale in tales.values():
        place = (0, 0)
        for told in tale:
            event = told.event
            if isinstance(event, PeerStarted):
                place = (0, 0)
            elif isinstance(event, WentBackToAnchor) and told.time >= since:
                found.add(event.round_id)
            elif isinstance(event, StepDone):
                step = (event.round_id, event.inner_step)
                if step[0] == place[0] and step[1] <= place[1] and told.time >= since:
                    found.add(event.round_id)
                place = step
    return found


def first_round_of_each_life(tale: Iterable[Told], since: float) -> list[int]:
    """The round in which a peer took its first step after each start."""
    found, fresh = list[int](), False
    for told in tale:
        if isinstance(told.event, PeerStarted):
            fresh = told.time >= since
        elif isinstance(told.event, StepDone) and fresh:
            found.append(told.event.round_id)
            fresh = False
    return found


def drift(tales: Tales, chains: Mapping[str, Chain], since: float) -> int:
    """Peers that found their weights to be other than committed, and rounds in which logs differ."""
    told = sum(
        isinstance(t.event, DriftDetected) and t.time >= since for tale in tales.values() for t in tale
    )
    rounds = {round_id for chain in chains.values() for round_id in chain}
    differing = [r for r in rounds if len({chain[r] for chain in chains.values() if r in chain}) > 1]
    return told + len(differing)


def round_times(tale: Iterable[Told], since: float, until: float = float("inf")) -> list[float]:
    """Seconds between consecutive commits of one peer, of rounds that lie wholly in a span of time."""
    times = [t.time for t in tale if isinstance(t.event, RoundCommitted) and since <= t.time <= until]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def median_round_s(tales: Tales, since: float, until: float = float("inf")) -> float:
    """Median over several peers of the time of a round."""
    times = [s for tale in tales.values() for s in round_times(tale, since, until)]
    return median(times) if times else float("nan")
