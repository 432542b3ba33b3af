"""Keeping what would otherwise be overwritten: a damaged log, the end of a fork and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from paceline.core.config import RunConfig
from paceline.core.errors import DamagedLog, HistoryBroken
from paceline.core.events import Emit, SetAside
from paceline.core.records import GlobalState
from paceline.ledger import Ledger, salvage


class Aside:
    """Hands out folders for files that are replaced, and tells why.

    Nothing in them is ever used or removed by the peer again.
    """

    def __init__(
        self, folder: Path, emit: Emit, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Name the place; nothing is made before it is needed.

        Args:
            folder: Holds a folder per case.
            emit: Told of each case.
            clock: Tells the time, for the folders' names.
        """
        self._folder, self._emit, self._clock = folder, emit, clock

    def fresh(self, why: str) -> Path:
        """Name a folder that does not exist yet.

        Args:
            why: One word for the case, part of the name.

        Returns:
            The folder, such as `aside/20261123-201500-fork`.
        """
        name = f"{self._clock():%Y%m%d-%H%M%S}-{why}"
        taken = sum(1 for path in self._folder.glob(f"{name}*"))
        return self._folder / (f"{name}-{taken + 1}" if taken else name)

    def tell(self, cause: str, folder: Path) -> None:
        """Say that files were set aside.

        Args:
            cause: Why, in one clause.
            folder: Where they are.
        """
        self._emit(SetAside(cause=cause, folder=str(folder)))


def open_ledger(path: Path, run: RunConfig, genesis: GlobalState, aside: Aside) -> Ledger:
    """Open a peer's log; rebuild it first if it is damaged.

    Args:
        path: The log.
        run: The run's parameters.
        genesis: The commit of round 0.
        aside: Where the damaged one goes.

    Returns:
        The log. Rounds that could not be kept are missing at its end, and come from other peers.

    Raises:
        UnusableState: It belongs to another run, or its promise is lost.
        LedgerError: The disk refuses.
    """
    try:
        return Ledger.open(path, run, genesis)
    except (DamagedLog, HistoryBroken) as error:
        folder = aside.fresh("damaged-log")
        head = salvage(path, run, genesis, folder)
        aside.tell(f"the run log is damaged ({error.cause}) and goes on after round {head.round_id}", folder)
        return Ledger.open(path, run, genesis)
