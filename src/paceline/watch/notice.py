"""What is wrong with a swarm as a whole, in one sentence: for whoever looks at a page that no longer moves.

    picture = picture.model_copy(update={"notice": notice(picture, source.begin)})
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from paceline.watch.picture import PeerView, Picture

_MANY = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def notice(picture: Picture, begin: float) -> str:
    """Tell what keeps a swarm from going on.

    Args:
        picture: The swarm as it stands.
        begin: When the watch over it began, in seconds since 1970.

    Returns:
        One sentence for people, or "" when nothing is wrong. It holds no text that came from peers.
    """
    if not picture.is_live or picture.rounds_committed >= picture.rounds_planned:
        return ""
    if not any(map(_is_here, picture.peers)):
        return _silence(picture, begin)
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


def _is_here(peer: PeerView) -> bool:
    return peer.standing not in ("lost", "finished")


def _latest(at: float, peers: Collection[PeerView]) -> float | None:
    return max((at - peer.seen_s for peer in peers), default=None)


def _silence(picture: Picture, begin: float) -> str:
    heard = heard_at(picture)
    why = "the peers have stopped, or this observer is cut off from them"
    if heard is None:
        return f"Nobody has been heard since the watch began, {_ago(picture.at, begin)}: {why}."
    return f"Nobody has been heard for {_ago(picture.at, heard)}: {why}."


def _ago(now: float, then: float) -> str:
    seconds = max(0, int(now - then))
    unit, size = next((found for found in _MANY if seconds >= found[1]), _MANY[-1])
    number = seconds // size
    when = datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{number} {unit}{'s' if unit == 'day' and number != 1 else ''}, since {when}"
