"""Donors in a process of their own, and a fetcher in this one, connected through real network daemons."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from hivemind.p2p import P2P

from paceline.core.digest import CHUNK_BYTES, chunk_hashes, digest_of
from paceline.network.transfer import (
    FetchedHistory,
    FetchOutcome,
    HistoryWant,
    StateWant,
    TransferLimits,
    fetch_history,
    fetch_state,
)
from tests.network.donor_program import OFFSET, PREFIX

_T = TypeVar("_T")
QUICK = TransferLimits(stall_s=2.0, total_s=30.0)


class State:
    """A made-up result of round 1 in a folder, and what a commit would say about it."""

    def __init__(self, folder: Path, num_elements: int, attempt: int = 0) -> None:
        self.folder = folder
        self.num_elements = num_elements
        block = hashlib.shake_256(f"{num_elements} {attempt}".encode()).digest(1 << 16)
        anchor = (block * (1 + 4 * num_elements // len(block)))[1 : 1 + 4 * num_elements]
        # Every chunk differs from every other.
        pieces = [anchor[start : start + CHUNK_BYTES] for start in range(0, len(anchor), CHUNK_BYTES)]
        anchor = b"".join(number.to_bytes(4, "big") + piece[4:] for number, piece in enumerate(pieces))
        momentum = anchor[::-1]
        self.data = anchor + momentum
        self.want = StateWant(
            round_id=1,
            num_elements=num_elements,
            weights_digest=digest_of(chunk_hashes(anchor)),
            momentum_digest=digest_of(chunk_hashes(momentum)),
        )
        self.path.write_bytes(b"\xaa" * OFFSET + self.data)

    @property
    def path(self) -> Path:
        return self.folder / f"1-{self.want.weights_digest}.bin"

    @property
    def name(self) -> dict[str, Any]:
        """How requests name it."""
        return {"round_id": self.want.round_id, "weights_digest": self.want.weights_digest}

    @property
    def num_chunks(self) -> int:
        return 2 * -(-4 * self.num_elements // CHUNK_BYTES)


class Swarm:
    """Starts donors, and fetches from them."""

    def __init__(self, program: subprocess.Popen[str], runner: asyncio.Runner, p2p: P2P) -> None:
        self._program = program
        self._runner = runner
        self.p2p = p2p
        self.maddrs: dict[str, list[str]] = {}

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)

    def order(self, **command: Any) -> Any:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(command) + "\n")
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())

    def donor(
        self,
        state: State,
        fault: str | None = None,
        limits: dict[str, Any] | None = None,
        num_links: int = 0,
        link_bytes: int = 100,
    ) -> str:
        maddrs = self.run(self.p2p.get_visible_maddrs())
        peer_id, self.maddrs[peer_id] = self.order(
            do="start",
            contacts=[str(maddr) for maddr in maddrs],
            folder=str(state.folder),
            num_elements=state.num_elements,
            fault=fault,
            limits=limits or {},
            history={"num_links": num_links, "link_bytes": link_bytes},
        )
        return str(peer_id)

    def asked(self, donor: str) -> list[int]:
        return list(self.order(do="asked", peer_id=donor))

    def stop(self) -> None:
        self.order(do="stop")

    def fetch_state(
        self, donors: list[str], want: StateWant, into: Path, limits: TransferLimits = QUICK
    ) -> FetchOutcome:
        return self.run(fetch_state(self.p2p, donors, PREFIX, want, into, limits))

    def fetch_history(
        self, donors: list[str], want: HistoryWant, limits: TransferLimits = QUICK
    ) -> FetchedHistory:
        return self.run(fetch_history(self.p2p, donors, PREFIX, want, limits))

    def memory_bytes(self) -> int:
        for line in Path(f"/proc/{self._program.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return 1024 * int(line.split()[1])
        raise AssertionError("no VmRSS")


@contextmanager
def swarm() -> Iterator[Swarm]:
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.network.donor_program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with program, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        p2p = runner.run(P2P.create(startup_timeout=60))
        try:
            yield Swarm(program, runner, p2p)
        finally:
            runner.run(p2p.shutdown())
