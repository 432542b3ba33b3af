"""Boards on real DHT nodes, each in a process of its own that this one forks."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hivemind.dht import DHT, DHTNode
from hivemind.dht.routing import DHTID

from paceline.core.records import CreditRecord, Record
from paceline.core.signing import SigningKey
from paceline.network import replica
from paceline.network.board import Board, Posted
from paceline.network.dht import PeerDht
from paceline.network.validator import KEYS, RecordValidator, Rejections

RUN = "run-12345678"
CREDITS = ("credits",)


def credit(peer_id: str, balance: int, **changes: Any) -> CreditRecord:
    """A small record with a number to tell it by."""
    content = {"run_id": RUN, "peer_id": peer_id, "seq": 0, "expires_at": 0.0}
    content |= {"round_id": 1, "head_digest": "ab" * 32, "balance": balance}
    return CreditRecord.model_validate(content | changes)


def key_id(kind: str = "credits") -> DHTID:
    return DHTID.generate(source=KEYS[kind])


async def num_kept(kind: str, _: DHT, node: DHTNode) -> int:
    """How many records of a kind a node's own storage has."""
    entry = node.protocol.storage.get(key_id(kind))
    return len(entry.value) if entry is not None else 0


async def fail_to_store(times: int, _: DHT, node: DHTNode) -> None:
    """Lose the next records on their way to others, in the node's process."""
    protocol, really = node.protocol, node.protocol.call_store
    left = iter(range(times))

    async def call_store(*args: object, **kwargs: object) -> object:
        return None if next(left, None) is not None else await really(*args, **kwargs)

    protocol.call_store = call_store


async def num_at_work(_: DHT, node: DHTNode) -> int:
    return len(replica._replica(node)._tasks)


class BoardPeer:
    """A DHT node, a key, and a board."""

    def __init__(self, dht: PeerDht, rejections: Rejections, key: SigningKey | None = None) -> None:
        self.dht, self.rejections = dht, rejections
        self.key = key or SigningKey.from_seed(secrets.token_bytes(32))
        self.board = self.view()

    def view(self, *, run_id: str | None = RUN, ahead_s: float = 0.0) -> Board:
        """A board that has read nothing yet, with a clock that may be ahead."""
        return Board(
            self.dht,
            self.key,
            run_id=run_id,
            rejections=self.rejections,
            clock=lambda: time.time() + ahead_s,
        )

    def post(self, balance: int, **changes: Any) -> Posted:
        posted = self.board.publish(credit(self.key.peer_id, balance, **changes))
        self.board.flush()
        return posted

    def balances(self, board: Board | None = None) -> dict[str, int]:
        """What a look at the board shows, by author; a fresh look unless another is given."""
        records: list[Record] = [posted.record for posted in (board or self.view()).read(CREDITS)]
        return {record.peer_id: record.balance for record in records if isinstance(record, CreditRecord)}

    def refused(self) -> dict[str, int]:
        return {reason: count for reason, count in self.rejections.by_reason().items() if count}

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.dht.join()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.dht.pid, signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.dht.pid, number)
        until(lambda: _is_still(self.dht.pid))

    @property
    def maddrs(self) -> list[str]:
        return [str(maddr) for maddr in self.dht.get_visible_maddrs()]


class Boards:
    """Starts peers that know one another."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self.seeds: list[str] = []

    def peer(self, **settings: Any) -> BoardPeer:
        rejections = Rejections()
        node = PeerDht(
            self.seeds, record_validators=[RecordValidator(rejections)], nat_port_map=False, **settings
        )
        node.start_or_raise()
        peer = BoardPeer(self.keep(node), rejections)
        self.seeds = self.seeds or peer.maddrs
        return peer

    def keep(self, node: Any) -> Any:
        """Shut another node down with the rest."""
        self._nodes.append(node)
        return node

    def shutdown(self) -> None:
        for node in self._nodes:
            node.shutdown()


@contextmanager
def boards() -> Iterator[Boards]:
    started = Boards()
    try:
        yield started
    finally:
        started.shutdown()


def _is_still(pid: int) -> bool:
    """Whether a process is stopped, or dead, or gone altogether."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "TZ"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition: Callable[[], object], limit_s: float = 240.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
