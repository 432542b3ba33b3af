"""Which peers Prometheus is to scrape: its HTTP service discovery, fed from a picture.

https://prometheus.io/docs/prometheus/latest/http_sd/ has the format. Only addresses are listed whose peer has
proven that it serves them; anybody may announce anybody's.
"""

from __future__ import annotations

import re

from pydantic import Field

from paceline.core.records import Frozen
from paceline.watch.picture import PeerView, Picture
from paceline.watch.stall import is_here

_ADDRESS = re.compile(
    r"(?:\[[0-9a-fA-F:.]+\]|[0-9A-Za-z](?:[0-9A-Za-z.-]{0,251}[0-9A-Za-z])?):([1-9][0-9]{0,4})"
)
_MAX_PORT = 65535


class TargetGroup(Frozen):
    """One peer, as Prometheus wants it.

    Guarantees:
        A target that is no plain host and port is left out.
    """

    targets: tuple[str, ...]
    """Its one address, `host:port`."""
    labels: dict[str, str] = Field(default_factory=dict)
    """`run_id`, `peer_id` and `nickname`, for every metric of the peer; `__meta_…`, for relabelling."""


def target_groups(picture: Picture) -> list[TargetGroup]:
    """List the peers to scrape.

    Args:
        picture: The swarm as it stands.

    Returns:
        A group for every live peer that has proven its address, sorted by peer id; none for a replay,
        in which nobody lives.
    """
    if not picture.is_live:
        return []
    return [
        TargetGroup(targets=(peer.metrics_address,), labels=_labels(picture, peer))
        for peer in picture.peers
        if is_here(peer) and peer.is_reachable is True and _is_address(peer.metrics_address)
    ]


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    return found is not None and int(found[1]) <= _MAX_PORT


def _labels(picture: Picture, peer: PeerView) -> dict[str, str]:
    return {
        "run_id": picture.run_id,
        "peer_id": peer.peer_id,
        "nickname": peer.nickname,
        "__meta_paceline_phase": peer.standing,
        "__meta_paceline_coordinator": "true" if peer.is_coordinator else "false",
    }
