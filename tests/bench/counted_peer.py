"""`paceline`, unchanged but for a tally of what it asks of the board and of other peers' DHT nodes.

    python -m tests.bench.counted_peer join ...

Each call adds one letter to the file named by `TALLY` and the process id of the peer's main process. The DHT
node is forked from that process and writes to the same file.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import Any

from hivemind.dht.protocol import DHTProtocol

from paceline.cli import main
from paceline.network.board import Board
from tests.bench.counted_calls import TALLY


def count_calls(path: Path) -> None:
    """Let this process and those forked from it count."""
    # Short writes to the end of a file never mix, whichever process makes them.
    place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(letters: str) -> None:
        os.write(place, letters.encode("ascii"))

    _note_calls(Board, "_store", lambda: note("w"))
    _note_calls(DHTProtocol, "call_store", lambda: note("S"))
    _note_calls(DHTProtocol, "call_find", lambda: note("F"))
    read = Board.read

    @wraps(read)
    def counted(*given: Any, **named: Any) -> Any:
        found = read(*given, **named)
        note("l" + "n" * len(found))
        return found

    Board.read = counted  # type: ignore[method-assign]


def _note_calls(owner: Any, name: str, note: Any) -> None:
    method = getattr(owner, name)

    @wraps(method)
    def counted(*given: Any, **named: Any) -> Any:
        note()
        return method(*given, **named)

    setattr(owner, name, counted)


if __name__ == "__main__":
    count_calls(Path(os.environ[TALLY]) / str(os.getpid()))
    main()
