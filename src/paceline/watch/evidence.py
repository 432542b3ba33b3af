"""What is known of one round and of one peer in it: what a reason (`watch/why.py`) is worked out from."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.core.config import RunConfig
from paceline.watch.picture import Standing


@dataclass(frozen=True)
class Glimpse:
    """A peer as it was seen, or saw itself, at one moment.

    Attributes:
        at: The moment, in seconds since 1970.
        standing: What it did.
        round_id: The round it worked on.
        samples: Sequences trained on in that round.
        head: Digest of the commit that it stood on; empty when that is not known.
        silent_s: For how long nothing had come from it.
    """

    at: float
    standing: Standing
    round_id: int
    samples: int
    head: str = ""
    silent_s: float = 0.0


@dataclass(frozen=True)
class Blame:
    """Somebody's word on a failed all-reduce.

    Attributes:
        teller: Who said it; empty when that is not known.
        attempt: In which attempt of the round.
        cause: What happened, in the teller's words; may be empty.
        blamed: Who is held responsible; may be empty.
    """

    teller: str
    attempt: int
    cause: str
    blamed: str


@dataclass(frozen=True)
class Evidence:
    """What is known of one round, and of one peer in it.

    Attributes:
        run: The run's parameters.
        height: The last committed round.
        known: Everybody that was ever heard of.
        members: Who is in the round's average, when it is committed.
        samples: What each of them was credited, in the same order.
        prev_digest: Digest of the commit that the round builds on; empty when it is not known.
        trained: Sequences that the peer had trained on by its own account when the round was averaged.
        glimpse: The peer at the time of the plan, or as it was last seen before; of a round in progress, now.
        started_at: When the peer was last started before the plan; None when that is not known.
        begun_at: When the round began for most; None when that is not known.
        took_part: Attempts of the round in which the peer is known to have been a member.
        voids: Attempts that were given up, each with its cause.
        blames: What was said of failed attempts.
        planned: Members of the plan that is being carried out, of a round in progress.
        watched: Whether the source tells at all what peers did in that round.
    """

    run: RunConfig
    height: int
    known: frozenset[str]
    members: tuple[str, ...] = ()
    samples: tuple[int, ...] = ()
    prev_digest: str = ""
    trained: int | None = None
    glimpse: Glimpse | None = None
    started_at: float | None = None
    begun_at: float | None = None
    took_part: frozenset[int] = frozenset()
    voids: dict[int, str] = field(default_factory=dict)
    blames: tuple[Blame, ...] = ()
    planned: tuple[str, ...] = ()
    watched: bool = False
