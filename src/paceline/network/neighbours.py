"""Addresses that outlive a peer: with whom it was connected, so that it finds its swarm without a seed.

They are kept in a JSON file, a list of multiaddrs. A neighbour is trusted no more than a seed is: everything
that comes from it is checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hivemind.utils.multiaddr import Multiaddr

MOST = 32
"""So many addresses are kept; one that answers is enough."""


def recall_neighbours(path: Path) -> tuple[str, ...]:
    """Read the addresses that were kept.

    Args:
        path: The file; it need not exist.

    Returns:
        Multiaddrs with peer ids; none when the file can't be read. It is a convenience and no state.
    """
    try:
        kept: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    texts = [text for text in kept if isinstance(text, str)] if isinstance(kept, list) else []
    return tuple(text for text in texts[:MOST] if _is_whole(text))


def keep_neighbours(path: Path, addresses: Collection[str], members: Collection[str] = ()) -> None:
    """Write addresses down, unless there are none: those of better days are worth more.

    Args:
        path: The file, replaced whole or not at all.
        addresses: Multiaddrs with peer ids.
        members: Peer ids whose addresses come first, so that no crowd of strangers displaces them.
    """
    known = set(members)
    ranked = sorted(addresses, key=lambda text: (text.rpartition("/p2p/")[2] not in known, text))
    chosen = ranked[:MOST]
    if not chosen or tuple(chosen) == recall_neighbours(path):
        return
    unfinished = path.with_name(f"{path.name}.new")
    try:
        unfinished.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        return  # a full disk has worse consequences elsewhere


def _is_whole(text: str) -> bool:
    try:
        return bool(Multiaddr(text)["p2p"])
    except (ValueError, LookupError):
        return False
