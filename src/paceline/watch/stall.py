"""When a swarm counts as stalled: the one rule that the page, `paceline top` and the alert go by. Pure.

A commit is waited for since the last one; before the first, since as many peers are here as it takes. A swarm
is stalled when that is longer than three rounds take, and than two leases. The page works out the same
between two pictures (`web/page/verdict.js`), and a test holds the two together.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from paceline.watch.bounds import MOST, rate
from paceline.watch.picture import PeerView, Picture

UNKNOWN_ROUND_S = 60.0
"""A round is taken to last so long when nothing tells."""
_LATELY = 11  # so many commits lie around the last ten rounds
_AT_ONCE_S = 0.01  # commits that were there before the watch are all first seen at once
_ROUNDS, _LEASES = 3, 2


def is_here(peer: PeerView) -> bool:
    """Tell whether a peer takes part.

    Args:
        peer: The peer.

    Returns:
        Whether it is neither lost nor leaving nor finished.
    """
    return peer.standing not in ("lost", "leave", "finished")


def typical_round_s(picture: Picture) -> float | None:
    """Tell how long a round takes.

    Args:
        picture: The swarm as it stands, with its last 12 rounds at least.

    Returns:
        The median time between two of the last commits, in seconds; before there are two, the median of what
        the speeds of the members that are here let expect; None when nothing is known.
    """
    done = [(view.round_id, view.committed_at) for view in picture.rounds if view.committed_at is not None]
    gaps = [
        after - before
        for (number, before), (following, after) in pairwise(done[-_LATELY:])
        if following == number + 1 and after - before > _AT_ONCE_S
    ]
    known = gaps or [
        expected for peer in picture.peers if is_here(peer) and (expected := _whole_round_s(picture, peer))
    ]
    return median(known) if known else None


def waited_s(picture: Picture) -> float | None:
    """Tell for how long a commit has been waited for.

    Args:
        picture: The swarm as it stands.

    Returns:
        Seconds; None when there was no commit yet and too few peers are here for the first.
    """
    since = picture.ready_since if picture.last_commit_at is None else picture.last_commit_at
    return None if since is None else max(0.0, picture.at - since)


def stalled_after_s(picture: Picture) -> float:
    """Tell how long a commit may be waited for.

    Args:
        picture: The swarm as it stands, with its last 12 rounds at least.

    Returns:
        Seconds.
    """
    return max(_ROUNDS * (typical_round_s(picture) or UNKNOWN_ROUND_S), _LEASES * picture.lease_s)


def _whole_round_s(picture: Picture, peer: PeerView) -> float | None:
    # What a stranger says of its speed must not decide.
    if not peer.is_member or peer.inner_step <= 0 or peer.samples_per_s <= 0:
        return None
    seconds = rate(picture.inner_steps * peer.samples / peer.inner_step, peer.samples_per_s)
    return seconds if 0 < seconds < MOST else None
