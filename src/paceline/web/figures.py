"""Figures that follow from a picture, in the shape in which metrics want them: values with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from paceline.watch.picture import PeerView, Picture, Standing
from paceline.watch.stall import is_here

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


def _shown(picture: Picture) -> list[PeerView]:
    # With too many, those that take part come first: whoever makes up identities has no credits.
    ranked = sorted(picture.peers, key=lambda peer: (not is_here(peer), -peer.credits, peer.peer_id))
    return sorted(ranked[:MAX_PEERS], key=lambda peer: peer.peer_id)
