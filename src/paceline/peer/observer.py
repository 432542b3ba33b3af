"""A look at a swarm from outside: what `paceline status` and `paceline credits` show."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import SeedsUnreachable
from paceline.core.records import (
    CommitRecord,
    CreditRecord,
    GlobalState,
    PeerRecord,
    Record,
    WorkerMetrics,
)
from paceline.core.signing import SigningKey
from paceline.network.board import Board
from paceline.network.dht import PeerDht
from paceline.network.lookout import Lookout
from paceline.network.validator import RecordValidator, Rejections
from paceline.peer.directory import find_run, seeds_of

_KINDS = ("peer", "commit", "metrics", "credits")


@dataclass(frozen=True)
class SwarmView:
    """The board of a run at one moment.

    Attributes:
        run: The run's parameters.
        peers: Latest heartbeat of every peer that has one, sorted by peer id.
        head: The last commit on the board, or None.
        coordinator: Whom most peers follow, or "".
        term: In which term.
        credits: Balances as the peers themselves state them.
        metrics: Latest metrics of every peer.
    """

    run: RunConfig
    peers: list[PeerRecord]
    head: GlobalState | None
    coordinator: str
    term: int
    credits: dict[str, int]
    metrics: list[WorkerMetrics]


def observe(target: Handout | str) -> SwarmView:
    """Read the board of a run, without becoming a part of the swarm.

    Args:
        target: The run's hand-out, or the multiaddr of any of its peers.

    Returns:
        What is on the board.

    Raises:
        JoinError: The swarm could not be reached, or trains another run.
    """
    with looking_at(target) as (board, run):
        return _view(run, [posted.record for posted in board.read(_KINDS)])


@contextmanager
def looking_at(target: Handout | str) -> Iterator[tuple[Board, RunConfig]]:
    """Connect to a swarm as a client of its DHT, which serves nobody and is served by all.

    Forks a process: call this in the main thread, before there are others.

    Args:
        target: The run's hand-out, or the multiaddr of any of its peers.

    Yields:
        The run's board, to read from as long as the block lasts, and the run's parameters.

    Raises:
        JoinError: The swarm could not be reached, or trains another run.
    """
    with looking_out(target) as (_, board, run):
        yield board, run


@contextmanager
def looking_out(
    target: Handout | str, also: Sequence[str] = (), run: RunConfig | None = None
) -> Iterator[tuple[Lookout, Board, RunConfig]]:
    """Do the same, for somebody who asks for more than records.

    Args:
        target: The run's hand-out, or the multiaddr of any of its peers.
        also: Other addresses to try when none of those answers.
        run: The run's parameters where they are known; else the swarm is asked for them.

    Yields:
        The view of the network, the run's board and the run's parameters.

    Raises:
        JoinError: The swarm could not be reached, or trains another run.
    """
    rejections = Rejections()
    key = SigningKey.from_seed(secrets.token_bytes(32))
    with ExitStack() as stack:
        dht = _connect(stack, seeds_of(target), tuple(also), rejections)
        board = Board(dht, key, run_id=None, rejections=rejections)
        run = find_run(board, target) if run is None else run
        board.run_id = run.run_id
        yield Lookout(dht), board, run


def _connect(
    stack: ExitStack, seeds: tuple[str, ...], also: tuple[str, ...], rejections: Rejections
) -> PeerDht:
    def start(addresses: tuple[str, ...]) -> PeerDht:
        dht = PeerDht(
            addresses,
            record_validators=[RecordValidator(rejections)],
            client_mode=True,
            host_maddrs=["/ip4/127.0.0.1/tcp/0"],
            nat_port_map=False,
        )
        return stack.enter_context(dht)

    try:
        return start(seeds)
    except SeedsUnreachable:
        if not also:
            raise
        return start((*seeds, *also))


def _view(run: RunConfig, records: list[Record]) -> SwarmView:
    peers = sorted((r for r in records if isinstance(r, PeerRecord)), key=lambda record: record.peer_id)
    commits = [r.state for r in records if isinstance(r, CommitRecord)]
    term, coordinator = _followed(peers)
    return SwarmView(
        run=run,
        peers=peers,
        head=max(commits, key=lambda state: state.round_id, default=None),
        coordinator=coordinator,
        term=term,
        credits={r.peer_id: r.balance for r in records if isinstance(r, CreditRecord)},
        metrics=[r for r in records if isinstance(r, WorkerMetrics)],
    )


def _followed(peers: list[PeerRecord]) -> tuple[int, str]:
    choices = [(peer.term, peer.coordinator) for peer in peers if peer.coordinator]
    return max(choices, key=lambda choice: (choices.count(choice), choice), default=(0, ""))


def age_s(record: Record) -> float:
    """Tell how old a record is by its own account.

    Args:
        record: Any record.

    Returns:
        Seconds since its author made it; the clocks may differ.
    """
    return time.time() - record.seq / 1000
