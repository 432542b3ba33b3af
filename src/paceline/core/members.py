"""Who takes part in an attempt, and with what weight."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from math import ceil

MAX_OVER_MEDIAN = 16
"""No member's weight is more than so many times the median weight of its roster."""
STAYING_SHARE = 0.75
"""Of the last roster so many stay when others wait for their turn: its majority has to vote."""


def choose_members(
    ready: Collection[str],
    electors: Collection[str],
    *,
    run_id: str,
    me: str,
    room: int,
    rotate: bool,
) -> list[str]:
    """Choose a roster.

    When there is room for all who are ready, they are all in it. Otherwise they take turns: every peer has a
    fixed place on a ring, the last roster covers an arc of it, and the arc moves on. Its first quarter leaves
    for those who come next behind it, so that after some 4 * peers / room rounds everybody has had a turn of
    about four rounds. This needs no memory: where the arc ends is seen from the last roster.

    Args:
        ready: Who can take part.
        electors: The last committed roster, without which nothing can be committed.
        run_id: The run.
        me: The coordinator; it stays, for it should not have to fetch the state before every round.
        room: The longest roster.
        rotate: Whether electors may be left out for the sake of others; not when an attempt has just failed.

    Returns:
        The members, sorted by peer id.
    """
    if len(ready) <= room:
        return sorted(ready)
    ring = _ring(run_id, {*ready, *electors} - {me})
    oldest_first = _from_arc_start(ring, set(electors))
    staying = [peer for peer in oldest_first if peer in electors and peer in ready]
    next_in_turn = _after_arc(oldest_first, set(electors))
    coming = [peer for peer in next_in_turn if peer in ready]
    own = [me] if me in ready else []
    if rotate:
        spare = len(staying) + (me in ready and me in electors) - ceil(STAYING_SHARE * len(electors))
        lacking = len(coming) - (room - len(own) - len(staying))
        staying = staying[max(0, min(spare, lacking)) :]
    return sorted((own + staying + coming)[:room])


def sensible(samples: Sequence[int]) -> tuple[int, ...]:
    """Limit what a peer's own word is worth: no weight above `MAX_OVER_MEDIAN` times the median one.

    Args:
        samples: Sequences trained on, as members state them.

    Returns:
        The weights, in the same order.
    """
    return tuple(min(stated, most_sensible(samples)) for stated in samples)


def most_sensible(samples: Sequence[int]) -> int:
    """Tell the largest weight that a roster's members may have.

    Args:
        samples: Sequences trained on, of all members.

    Returns:
        `MAX_OVER_MEDIAN` times the median of those that are not 0.
    """
    trained = sorted(stated for stated in samples if stated)
    return MAX_OVER_MEDIAN * trained[(len(trained) - 1) // 2] if trained else 0


def _ring(run_id: str, peers: Collection[str]) -> list[str]:
    return sorted(peers, key=lambda peer: hashlib.sha256(f"{run_id}\x00{peer}".encode()).digest())


def _from_arc_start(ring: list[str], arc: set[str]) -> list[str]:
    # The arc begins behind the longest gap. Its members need not be neighbours: others may sit between them.
    longest, begins, gap = -1, 0, 0
    for index, peer in enumerate([*ring, *ring]):
        if peer not in arc:
            gap += 1
            continue
        if gap > longest and index >= gap:
            longest, begins = gap, index % len(ring)
        gap = 0
    return ring[begins:] + ring[:begins]


def _after_arc(oldest_first: list[str], arc: set[str]) -> list[str]:
    # Those behind the arc first; then those within it, who came too late for this turn.
    last = max((index for index, peer in enumerate(oldest_first) if peer in arc), default=-1)
    turns = oldest_first[last + 1 :] + oldest_first[: last + 1]
    return [peer for peer in turns if peer not in arc]
