"""A state of some megabytes, fetched from two donors, and copied over one plain TCP connection.

    python -m tests.bench.catch_up FILE OFFSET

is the plain sender: it prints its port, and sends the rest of the file to whoever connects.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from paceline.network.transfer import TransferLimits
from tests.network.donor_program import OFFSET
from tests.network.donors import State, swarm

_BLOCK = 1 << 20
_BYTES_PER_ELEMENT = 8
"""A value of the anchor, and one of the momentum."""


class Catch:
    """A state, two donors that hold it, and a plain sender.

    Attributes:
        size_bytes: The state's size.
    """

    def __init__(self, folder: Path, state_mb: int) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._state = State(folder, state_mb * 1_000_000 // _BYTES_PER_ELEMENT)
        self.size_bytes = len(self._state.data)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._swarm = stack.enter_context(swarm())
            self._donors = [self._swarm.donor(self._state) for _ in range(2)]
            command = [sys.executable, "-m", "tests.bench.catch_up", str(self._state.path), str(OFFSET)]
            sender = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(sender.kill)
            assert sender.stdout is not None
            self._port = int(sender.stdout.readline())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *how: object) -> None:
        self._stack.close()

    def fetch(self) -> float:
        """Take the state from both donors; tell how many seconds that took."""
        into = self._folder / "fetched"
        into.unlink(missing_ok=True)
        limits = TransferLimits()
        outcome = self._swarm.fetch_state(self._donors, self._state.want, into, limits)
        if outcome.dropped or outcome.fetched_bytes != self.size_bytes:
            raise RuntimeError(f"not the whole state from both donors: {outcome}")
        return outcome.seconds

    def copy(self) -> float:
        """Take the same bytes from the plain sender, into a file, too."""
        into, left = self._folder / "copied", self.size_bytes
        into.unlink(missing_ok=True)
        began, block = time.perf_counter(), bytearray(_BLOCK)
        with socket.create_connection(("127.0.0.1", self._port)) as source, into.open("wb") as sink:
            while left and (got := source.recv_into(block, min(left, _BLOCK))):
                sink.write(memoryview(block)[:got])
                left -= got
        if left:
            raise RuntimeError(f"{left} bytes are missing from the plain copy")
        return time.perf_counter() - began


def send(path: Path, offset: int) -> None:
    """Send a file, from an offset on, to whoever connects, one after another."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        print(door.getsockname()[1], flush=True)
        while True:
            taker, _ = door.accept()
            with taker, path.open("rb") as source, suppress(OSError):  # it hangs up once it has enough
                taker.sendfile(source, offset)


if __name__ == "__main__":
    send(Path(sys.argv[1]), int(sys.argv[2]))
