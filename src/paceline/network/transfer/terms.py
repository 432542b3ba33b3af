"""What a fetcher asks for, for how long, and what it gets. All of it can be pickled."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core.chain import Link


@dataclass(frozen=True)
class TransferLimits:
    """How long to wait, and how fast to take.

    Attributes:
        stall_s: How long a donor may take for one answer of at most 1 MiB.
        total_s: How long everything may take.
        donors: How many donors to take chunks from at once; the rest are in reserve. So many megabytes must
            come through this peer's link per `stall_s`.
        bytes_per_s: Download rate over all donors; None for no limit.
    """

    stall_s: float = 15.0
    total_s: float = 3600.0
    donors: int = 8
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class StateWant:
    """One result of a round, as a commit, or a vote for it, pins it.

    Attributes:
        round_id: The round.
        num_elements: Float32 values in the anchor, and as many in the momentum.
        weights_digest: The anchor's digest.
        momentum_digest: The momentum's digest.
    """

    round_id: int
    num_elements: int
    weights_digest: str
    momentum_digest: str


@dataclass(frozen=True)
class HistoryWant:
    """A stretch of history.

    Attributes:
        after_round: The last commit that is already here.
        max_links: How many rounds at most.
        max_bytes: How many bytes at most, packed; no less than one page of 1 MiB.
    """

    after_round: int
    max_links: int = 512
    max_bytes: int = 8 << 20


@dataclass(frozen=True)
class FetchedHistory:
    """What a donor says the history is.

    Attributes:
        links: In order, still to be verified; empty when nobody has any after the round asked for.
        donor: Who sent them, or "".
        dropped: What was wrong with other donors, or at last with this one, by peer id.
    """

    links: tuple[Link, ...]
    donor: str
    dropped: dict[str, str]


@dataclass(frozen=True)
class FetchOutcome:
    """A state that arrived and matches its digests.

    Attributes:
        seconds: How long it took.
        size_bytes: Size of the state.
        fetched_bytes: How much of it came from donors now; the rest was here from an earlier try.
        donors: Who sent chunks, and how many, by peer id.
        dropped: What was wrong with the others, by peer id.
    """

    seconds: float
    size_bytes: int
    fetched_bytes: int
    donors: dict[str, int]
    dropped: dict[str, str]
