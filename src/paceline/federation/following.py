"""Following a swarm from its peers' folders on this machine, without being one of them.

The chain comes from the peers' run logs, each link checked like a joiner checks it. A round's mean
pseudo-gradient comes from two checkpoints in a row, since momentum_r = μ momentum_(r-1) + mean.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paceline.core.chain import Link, check_link
from paceline.core.config import RunConfig
from paceline.core.errors import CheckpointError, LedgerError, SwarmStalled
from paceline.core.records import GlobalState, RoundReceipt
from paceline.core.wire import unseal
from paceline.learning.checkpoint import file_name, load, newest, read_info
from paceline.learning.flat import Flat
from paceline.learning.fragments import Fragment, cut
from paceline.learning.model import num_parameters
from paceline.ledger import LogReader
from paceline.ledger.replay import replay
from paceline.peer.folders import StateFolder

_PAGE = 256


class Committed(NamedTuple):
    """A round that a swarm has committed."""

    state: GlobalState
    """The commit."""
    losses: dict[str, float]
    """Training loss by peer id, of those whose receipts back the commit; nats per token."""


class Follower:
    """Reads what a swarm commits, round after round.

    A swarm waits for nobody who merely watches, and its peers keep only their last few checkpoints. So each
    look secures the checkpoints of new rounds until they are taken, by hard links where the disk has them.

    Attributes:
        head: The last commit seen; None before the first look at a log.
    """

    def __init__(self, run: RunConfig, folders: Sequence[StateFolder], keep: Path) -> None:
        """Prepare; nothing is read yet.

        Args:
            run: The run.
            folders: Its peers' state folders, in any state of completeness.
            keep: Folder for checkpoints of rounds not taken yet, on the same disk; `close` removes it.
        """
        self.head: GlobalState | None = None
        self._run, self._folders, self._keep = run, tuple(folders), keep
        self._waiting: dict[int, Committed] = {}
        self._secured: set[int] = set()
        self._taken, self._momentum = 0, np.zeros(0, np.float32)

    def look(self) -> None:
        """Read what is new."""
        for folder in self._folders:
            self._extend(folder.log)
        for round_id in sorted(self._waiting.keys() - self._secured):
            self._secure(round_id)

    def has(self, round_id: int) -> bool:
        """Tell whether a round can be taken.

        Args:
            round_id: The round.

        Returns:
            Whether its commit and its checkpoint are here.

        Raises:
            SwarmStalled: The round is committed, and no peer has kept its checkpoint.
        """
        if round_id in self._waiting and round_id not in self._secured and self._latest() > round_id + 1:
            raise SwarmStalled(
                f"no peer has the checkpoint of round {round_id} any more",
                "follow a run from its beginning on, or let its peers keep more (node.keep_checkpoints)",
            )
        return round_id in self._secured

    def check_turn(self, round_id: int) -> None:
        """Refuse a round that is not the next to be taken.

        Args:
            round_id: The round.

        Raises:
            ValueError: It is another round's turn.
        """
        if round_id != self._taken + 1:
            raise ValueError(f"round {round_id}, where round {self._taken + 1} comes next")

    def take(self, round_id: int) -> tuple[Committed, Flat]:
        """Take a round, and forget it.

        Args:
            round_id: The round after the one taken last, or round 1.

        Returns:
            The commit, and the mean pseudo-gradient of the round, float32 `[num_elements]`, zero but for the
            fragment that was exchanged. The rounding of the momentum is in it: at most a unit in the last
            place of the larger of the two momenta.

        Raises:
            ValueError: It is another round's turn.
            CheckpointError: The checkpoint has been damaged on this disk.
        """
        self.check_turn(round_id)
        path = self._keep / file_name(round_id)
        momentum = load(path).momentum
        before = self._momentum if self._taken else np.zeros(num_parameters(self._run.model), np.float32)
        mean = mean_pseudo_gradient(before, momentum, self._run.outer.momentum)
        self._fragment_of(round_id).keep_only(mean)  # momentum has not decayed elsewhere
        self._taken, self._momentum = round_id, momentum
        self._secured.discard(round_id)
        path.unlink()
        return self._waiting.pop(round_id), mean

    def _fragment_of(self, round_id: int) -> Fragment:
        run = self._run
        return cut(run.model, run.overlap.fragments)[run.timetable.fragment_of(round_id)]

    def close(self) -> None:
        """Remove what was kept."""
        shutil.rmtree(self._keep, ignore_errors=True)

    # A log that is missing, being rebuilt or of another branch gives nothing; the next one may.
    def _extend(self, log: Path) -> None:
        try:
            if self.head is None:
                self.head = self._beginning(log)
            with closing(LogReader(log)) as reader:
                while links := reader.links(self.head.round_id, _PAGE):
                    for link in links:
                        self.head = self._admit(link, self.head)
        except LedgerError:
            return

    def _beginning(self, log: Path) -> GlobalState:
        found = replay(log)
        if found.run.digest() != self._run.digest():
            raise LedgerError(f"{log} is the log of run {found.run.run_id}, not of {self._run.run_id}")
        return found.genesis

    def _admit(self, link: Link, head: GlobalState) -> GlobalState:
        state = check_link(link, head, self._run).state
        receipts = [unseal(sealed) for sealed in link.receipts]
        losses = {receipt.peer_id: receipt.loss for receipt in receipts if isinstance(receipt, RoundReceipt)}
        self._waiting[state.round_id] = Committed(state, losses)
        return state

    def _secure(self, round_id: int) -> None:
        name, state = file_name(round_id), self._waiting[round_id].state
        for folder in self._folders:
            path = folder.checkpoints / name
            try:
                if read_info(path).momentum_digest == state.momentum_digest:
                    _link(path, self._keep / name)
                    self._secured.add(round_id)
                    return
            except (CheckpointError, OSError):  # not there, or removed while we look
                continue

    def _latest(self) -> int:
        paths = [newest(folder.checkpoints) for folder in self._folders]
        return max((int(path.stem.rpartition("-")[2]) for path in paths if path is not None), default=0)


def mean_pseudo_gradient(before: Flat, after: Flat, decay: float) -> Flat:
    """Recover what was averaged in a round from the outer momentum before and after it.

    Args:
        before: Momentum before the round, float32 `[num_elements]`; overwritten.
        after: Momentum after it.
        decay: The outer step's μ.

    Returns:
        The mean pseudo-gradient, in the memory of `before`.
    """
    np.multiply(before, np.float32(decay), out=before)
    return np.subtract(after, before, out=before)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
