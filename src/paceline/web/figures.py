"""Figures that follow from a picture, in the shape in which metrics want them: values with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from statistics import median
from typing import get_args

from paceline.watch.picture import PeerView, Picture, Standing

MAX_PEERS = 512
"""So many peers have series of their own at most; identities cost nothing."""

Sample = tuple[tuple[str, ...], float | None]
"""Values of the labels after `run_id`, and the value; None leaves the sample out."""
Reading = Callable[[Picture], Iterable[Sample]]
"""Reads all samples of a metric off a picture."""


def one(value: Callable[[Picture], float | None]) -> Reading:
    """Read one figure of the whole swarm.

    Args:
        value: Finds it; None when it is not known.

    Returns:
        What reads a single sample without labels.
    """
    return lambda picture: [((), value(picture))]


def each(value: Callable[[PeerView], float | None]) -> Reading:
    """Read one figure of every peer.

    Args:
        value: Finds it; None when it is not known.

    Returns:
        What reads a sample per peer, labelled with peer id and nickname.
    """
    return lambda picture: [((peer.peer_id, peer.nickname), value(peer)) for peer in _shown(picture)]


def latest(field: str) -> Callable[[Picture], float | None]:
    """Find a field of the last committed round that has it.

    Args:
        field: A field of `RoundView`.

    Returns:
        What finds its value.
    """

    def value(picture: Picture) -> float | None:
        known = [getattr(view, field) for view in picture.rounds if view.committed_at is not None]
        return next((found for found in reversed(known) if found is not None), None)

    return value


def age_s(moment: Callable[[Picture], float | None]) -> Callable[[Picture], float | None]:
    """Find how long ago something was.

    Args:
        moment: Finds when it was, in seconds since 1970.

    Returns:
        What finds its age in seconds.
    """

    def value(picture: Picture) -> float | None:
        then = moment(picture)
        return None if then is None else max(0.0, picture.at - then)

    return value


def is_here(peer: PeerView) -> bool:
    """Tell whether a peer takes part.

    Args:
        peer: The peer.

    Returns:
        Whether it is neither lost nor leaving nor finished.
    """
    return peer.standing not in ("lost", "leave", "finished")


def phases(picture: Picture) -> Iterable[Sample]:
    """Count the peers in each phase.

    Args:
        picture: The swarm as it stands.

    Returns:
        A sample per phase, of those without peers too.
    """
    standings = [peer.standing for peer in picture.peers]
    return [((standing,), standings.count(standing)) for standing in get_args(Standing)]


def tokens_per_s(picture: Picture) -> float:
    """Add up the speeds of the members that take part: a stranger's speed is only what it says.

    Args:
        picture: The swarm as it stands.

    Returns:
        Tokens per second.
    """
    return sum(peer.tokens_per_s for peer in picture.peers if is_here(peer) and peer.is_member)


def typical_round_s(picture: Picture) -> float | None:
    """Tell how long a round takes.

    Args:
        picture: The swarm as it stands, with its latest rounds.

    Returns:
        The median time between two commits, in seconds; before there are two, what the peers' speeds let
        expect; None when nothing is known.
    """
    gaps = [
        after.committed_at - before.committed_at
        for before, after in pairwise(picture.rounds)
        if before.committed_at and after.committed_at and after.round_id == before.round_id + 1
    ]
    expected = [_whole_round_s(picture, peer) for peer in picture.peers if is_here(peer)]
    # Commits that were there before the watch are all first seen at once.
    known = [gap for gap in gaps if gap > 0] or [seconds for seconds in expected if seconds is not None]
    return median(known) if known else None


def _whole_round_s(picture: Picture, peer: PeerView) -> float | None:
    if peer.inner_step <= 0 or peer.samples_per_s <= 0:
        return None
    return picture.inner_steps * (peer.samples / peer.inner_step) / peer.samples_per_s


def _shown(picture: Picture) -> list[PeerView]:
    # With too many, those that take part come first: whoever makes up identities has no credits.
    ranked = sorted(picture.peers, key=lambda peer: (not is_here(peer), -peer.credits, peer.peer_id))
    return sorted(ranked[:MAX_PEERS], key=lambda peer: peer.peer_id)
