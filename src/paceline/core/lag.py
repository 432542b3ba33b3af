"""Falling behind: noticing that the swarm has gone on, and asking for a repair, ever more rarely if in vain.

Anybody may claim any round. So a claim only makes this peer look for history that verifies, those whom the
swarm knows are asked first, and whoever cries wolf is soon asked no more often than once a minute.

A peer whose log has run ahead of the swarm on a fork (a folder from a backup, say) finds nobody ahead of it.
It compares histories with those who stand together elsewhere, when they outnumber those beside it for long.
"""

from __future__ import annotations

from collections.abc import Mapping

from paceline.core.actions import Repair
from paceline.core.records import PeerRecord
from paceline.core.standing import Standing

_AGAIN_S, _RARELY_S = 2.0, 60.0
_STRANDED_LEASES = 3  # whoever is merely about to apply the same commit has done so by then


class Lag:
    """One peer's view of how far it is behind."""

    def __init__(self) -> None:
        self._behind_since: float | None = None
        self._not_before = float("-inf")
        self._failures = 0

    def caught_up(self) -> None:
        """Note that this peer stands on a new commit."""
        self._behind_since, self._failures = None, 0

    def failed(self, now: float) -> None:
        """Note a repair that brought nothing.

        Args:
            now: Monotonic seconds.
        """
        self._not_before = now + min(_AGAIN_S * 2.0**self._failures, _RARELY_S)
        self._failures += 1

    def is_behind(
        self, standing: Standing, *, has_result: bool, now: float, knows_of_more: bool = False
    ) -> bool:
        """Decide whether the others have gone on without this peer.

        Args:
            standing: What this peer knows.
            has_result: Whether it holds this round's result: then only the commit and its receipts are
                missing, and get time to arrive.
            now: Monotonic seconds.
            knows_of_more: Whether its own log or promise says that a later round has begun.

        Returns:
            Whether to ask for a repair.
        """
        if _ahead(standing, now, knows_of_more=knows_of_more):
            patience = standing.run.pace.lease_s if has_result else 0.0
        elif _elsewhere(standing, now):
            patience = _STRANDED_LEASES * standing.run.pace.lease_s
        else:
            self._behind_since = None
            return False
        self._behind_since = now if self._behind_since is None else self._behind_since
        return now >= self._behind_since + patience

    def repair(self, standing: Standing, now: float, *, knows_of_more: bool = False) -> Repair | None:
        """Ask for a repair, unless one has just failed or nobody is ahead.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.
            knows_of_more: As for `is_behind`.

        Returns:
            The order, or None.
        """
        if now < self._not_before:
            return None
        ahead, known = _ahead(standing, now, knows_of_more=knows_of_more), standing.electors
        others = [peer for peer in ahead if peer != standing.me]
        donors = sorted(others, key=lambda peer: (peer not in known, -ahead[peer].round_id))
        donors = donors or sorted(_elsewhere(standing, now))
        return Repair(tuple(donors)) if donors else None


def _ahead(standing: Standing, now: float, *, knows_of_more: bool) -> Mapping[str, PeerRecord]:
    # While a quorum of the electors is in this very round, nobody can have got far beyond it: whoever claims
    # so, and is none of them, would only keep this peer from its work. But if its own log or
    # promise tells of more, so may that quorum's: they have lost their states, and who claims may be right.
    ahead = standing.ahead(now)
    if not knows_of_more and standing.electors and standing.electors.isdisjoint(ahead):
        here = [peer for peer, record in standing.live(now).items() if record.round_id == standing.round_id]
        if standing.is_quorum({*here, standing.me}, ()):
            return {}
    return ahead


def _elsewhere(standing: Standing, now: float) -> set[str]:
    # The largest group that stands on one other commit, if it outnumbers those here.
    head_digest, live = standing.head.digest(), standing.live(now)
    away = [peer for peer, record in live.items() if record.head_digest != head_digest]
    if 2 * len(away) <= len(live):
        return set()
    here = (live.keys() - away) | {standing.me}
    groups: dict[str, set[str]] = {}
    for peer in away:
        if peer != standing.me:
            groups.setdefault(live[peer].head_digest, set()).add(peer)
    largest = max(groups.values(), key=len, default=set[str]())
    return largest if len(largest) > len(here) else set()
