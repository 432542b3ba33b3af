"""Which of a peer's calls are counted, and where its tally lies."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

COMMAND = (sys.executable, "-m", "tests.bench.counted_peer")
"""A peer's program that counts."""
TALLY = "PACELINE_BENCH_TALLY"
CALLS = {
    "w": "records written",
    "l": "looks",
    "n": "news",
    "S": "DHT stores",
    "F": "DHT finds",
}
"""By letter: records stored on the board, repetitions of lasting ones included; looks at the board; records
that a look showed for the first time; and calls to other DHT nodes to store, and to find."""


def tally(folder: Path, pid: int) -> Counter[str]:
    """Count what a peer has asked for since it started.

    Args:
        folder: The folder that `TALLY` named.
        pid: The peer's main process.

    Returns:
        By the names in `CALLS`.
    """
    letters = Counter((folder / str(pid)).read_text(encoding="ascii"))
    return Counter({name: letters[letter] for letter, name in CALLS.items()})
