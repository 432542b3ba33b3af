"""Which process of a peer is which, found through /proc."""

from __future__ import annotations

import re
from pathlib import Path


def parents() -> dict[int, int]:
    """The parent of every process of this machine."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if match := re.match(r".*\) (\w) (\d+) ", text, flags=re.S):
            found[int(entry.name)] = int(match[2])
    return found


def children(pid: int) -> list[int]:
    """The processes that one has started, the oldest first."""
    return sorted(child for child, parent in parents().items() if parent == pid)


def family(pid: int) -> set[int]:
    """A process and all below it."""
    known = parents()
    found, frontier = set[int](), {pid}
    while frontier:
        found |= frontier
        frontier = {child for child, parent in known.items() if parent in frontier}
    return found


def is_alive(pid: int) -> bool:
    """Whether a process still runs: a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def parts(main: int) -> dict[str, int]:
    """The processes of a peer below its main one: `p2pd`, `DHT` and `averager`.

    The daemon is a child of the DHT process; of the two Python processes the averager has none.
    """
    found: dict[str, int] = {}
    for child in children(main):
        daemons = [pid for pid in children(child) if _name(pid) == "p2pd"]
        if daemons:
            found["DHT"], found["p2pd"] = child, daemons[0]
        elif _name(child).startswith("python"):
            found.setdefault("averager", child)
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
