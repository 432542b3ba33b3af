"""What is wrong with a swarm as a whole, in one sentence: for whoever looks at a page that no longer moves.

picture = picture.model_copy(update={"notice": notice(picture)})
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from paceline.watch.picture import PeerView, Picture

_UNITS = (("h", 3600), ("min", 60), ("s", 1))


def notice(picture: Picture) -> str:
    """Tell what keeps a swarm from going on.

    Args:
        picture: The swarm as it stands.

    Returns:
        One sentence for people, or "" when nothing is wrong. It holds no text that came from peers.
    """
    if not picture.is_live or picture.rounds_committed >= picture.rounds_planned:
        return ""
    if picture.blind_since is not None:
        return (
            f"This observer itself has been cut off from the network since {_clock(picture.blind_since)} "
            "and connects again by itself: of the swarm nothing is known."
        )
    if not any(peer.seen_s < picture.lease_s for peer in picture.peers):
        return _silence(picture)
    if picture.quorum_here < picture.quorum_needed:
        return (
            f"No round can end: {picture.quorum_here} of the {picture.quorum_needed} peers that it takes "
            f"are here."
        )
    return ""


def heard_at(picture: Picture) -> float | None:
    """Tell when a swarm was last heard.

    Args:
        picture: The swarm as it stands.

    Returns:
        When something new last came from anybody, in seconds since 1970, or None.
    """
    if picture.heard_at is not None:
        return picture.heard_at
    return _latest(picture.at, picture.peers)


def _latest(at: float, peers: Collection[PeerView]) -> float | None:
    return max((at - peer.seen_s for peer in peers), default=None)


def _silence(picture: Picture) -> str:
    heard = heard_at(picture)
    since = picture.begin if heard is None else heard
    if since is None or picture.at - since < picture.lease_s:
        return ""
    which = ", when the watch began," if heard is None else ""
    return (
        f"Nobody has been heard since {_clock(since)}{which or ','} {_spelled(picture.at - since)} ago: "
        f"the peers have stopped, or this observer is cut off from them."
    )


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _spelled(seconds: float) -> str:
    unit, size = next((found for found in _UNITS if seconds >= found[1]), _UNITS[-1])
    return f"{int(seconds // size)} {unit}"
