"""What a watch has missed, fetched from the peers' logs: a page at a time, and believed when it verifies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future

from paceline.core.config import RunConfig
from paceline.core.errors import HistoryBroken, PacelineError
from paceline.core.records import CommitRecord, RoundReceipt
from paceline.network.lookout import Lookout
from paceline.network.transfer import FetchedHistory
from paceline.watch.commits import Footing, footing_of, verified

_PAGE_LINKS = 128
_PATIENCE_S = 4.0  # what the board will show with the next look need not be fetched
_AGAIN_S, _AT_MOST_S = 10.0, 120.0
_SHUNNED_S = 600.0

Row = tuple[CommitRecord, list[RoundReceipt]]
"""A commit with the receipts that back it."""


class Past:
    """Asks for history while some is missing. Nothing here waits."""

    def __init__(self, lookout: Lookout, run: RunConfig) -> None:
        """Ask for nothing yet.

        Args:
            lookout: Reaches the peers.
            run: The run's parameters.
        """
        self._lookout, self._run = lookout, run
        self._question: Future[FetchedHistory] | None = None
        self._asked_after: Footing | None = None
        self._missing_since: float | None = None
        self._not_before = float("-inf")
        self._failures = 0
        self._shunned: dict[str, float] = {}

    def want(self, after: Footing | None, donors: Sequence[str], now: float) -> None:
        """Ask for what is missing, when it is time.

        Args:
            after: The commit after which something is missing; None when nothing is.
            donors: Peers that have it.
            now: Monotonic seconds.
        """
        if after is None:
            self._missing_since, self._failures = None, 0
            return
        self._missing_since = now if self._missing_since is None else self._missing_since
        due_at = max(self._missing_since + _PATIENCE_S, self._not_before)
        trusted = [donor for donor in donors if self._shunned.get(donor, now) <= now]
        if self._question is not None or not trusted or now < due_at:
            return
        chosen = random.sample(trusted, min(3, len(trusted)))
        self._asked_after = after
        self._question = self._lookout.ask_history(self._run.run_id, chosen, after.round_id, _PAGE_LINKS)

    def arrived(self, now: float) -> list[Row]:
        """Take what has come, as far as it verifies.

        Args:
            now: Monotonic seconds.

        Returns:
            Rows in order, following what was known when they were asked for.
        """
        question, footing = self._question, self._asked_after
        if question is None or footing is None or not question.done():
            return []
        self._question = None
        rows: list[Row] = []
        goes_on = False
        try:
            fetched = question.result()
            for link in fetched.links:
                rows.append(verified(link, footing, self._run))
                footing = footing_of(rows[-1][0])
        except HistoryBroken:
            self._shunned[fetched.donor] = now + _SHUNNED_S
            goes_on = True  # with another
        except PacelineError:
            pass  # nobody answers: it is tried again
        goes_on = goes_on or bool(rows)
        self._failures = 0 if goes_on else self._failures + 1
        wait_s = 0.0 if goes_on else min(_AGAIN_S * 2.0 ** min(self._failures, 8), _AT_MOST_S)
        self._not_before = now + wait_s
        return rows
