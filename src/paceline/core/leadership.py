"""Whom a peer follows: terms, and how a coordinator is replaced.

A peer follows one coordinator per term and says so in its heartbeat. A coordinator acts only while a quorum
follows it in the current round; two quorums share a peer, so a term and round have at most one that acts.
"""

from __future__ import annotations

from collections import Counter

from paceline.core.election import coordinator as first_in_line
from paceline.core.records import Phase
from paceline.core.standing import Standing

_MAX_TERM_LEAP = 10_000  # one record must not be able to exhaust the terms


class Leadership:
    """One peer's choice of a coordinator; it moves `standing.term` and `standing.coordinator`."""

    def __init__(self, standing: Standing, now: float) -> None:
        """Begin without a coordinator, in the term that `standing` has promised.

        Args:
            standing: What this peer knows.
            now: Monotonic seconds.
        """
        self._standing = standing
        self._promised_before_start = standing.term
        self._satisfied_at = now
        self._called_in = -1

    def begin_round(self, now: float) -> None:
        """Grant the coordinator a fresh lease: others may reach the new round a little later.

        Args:
            now: Monotonic seconds.
        """
        self._satisfied_at = now

    def stood_still(self, seconds: float) -> None:
        """Hold nobody's silence against them while this peer itself was stopped.

        Args:
            seconds: For how long it was.
        """
        self._satisfied_at += seconds

    def choose(self, now: float, *, may_lead: bool) -> bool:
        """Follow whoever a quorum follows; otherwise the first in line of the latest term.

        Args:
            now: Monotonic seconds.
            may_lead: Whether this peer itself is fit to coordinate.

        Returns:
            Whether the term or the coordinator changed: a promise that must be durable before it is said.
        """
        standing = self._standing
        followed = self._followed_by_others()
        for term, coordinator in sorted(followed, reverse=True):
            is_news = (term, coordinator) != (standing.term, standing.coordinator)
            if is_news and standing.is_established(term, coordinator, now):
                if coordinator == standing.me and term <= self._promised_before_start:
                    # It may have led in this term before a restart: a ballot must never be used twice.
                    return self._enter(term + 1, self._first_in_line(term + 1, now, may_lead), now)
                return self._enter(term, coordinator, now)
        latest = max((term for term, _ in followed), default=standing.term)
        if latest > standing.term:
            of_term = {who: count for (term, who), count in followed.items() if term == latest}
            return self._enter(latest, max(of_term, key=lambda who: (of_term[who], who)), now)
        if called := self._calling_in(now):
            return self._enter(called, standing.me, now)
        return self._replace(now, may_lead)

    def _calling_in(self, now: float) -> int:
        # Who is in sync but no elector, and has promised a later term (as an elector of old, say), can't
        # follow before the electors' term is later still, and it is not its to choose. So the coordinator
        # goes on to a later one itself: once a round at most, for anybody can claim any term, and never while
        # an attempt is under way.
        standing = self._standing
        if standing.coordinator != standing.me or standing.me not in (standing.electors or standing.peers):
            return 0
        latest = max((record.term for record in standing.in_sync(now).values()), default=0)
        if not standing.term < latest <= standing.term + _MAX_TERM_LEAP:
            return 0
        order = standing.orders.get(standing.me)
        under_way = order is not None and order.round_id == standing.round_id
        if under_way or self._called_in == standing.round_id:
            return 0
        if not standing.is_established(standing.term, standing.me, now):
            return 0
        self._called_in = standing.round_id
        return latest + 1

    def _followed_by_others(self) -> Counter[tuple[int, str]]:
        standing = self._standing
        least, most = standing.term, standing.term + _MAX_TERM_LEAP
        voters = standing.electors or standing.peers
        return Counter(
            [
                (seen.record.term, seen.record.coordinator)
                for peer, seen in standing.peers.items()
                if least <= seen.record.term <= most
                and seen.record.coordinator
                and peer in voters
                and peer != standing.me
            ]
        )

    def _replace(self, now: float, may_lead: bool) -> bool:
        standing = self._standing
        patient = now < self._satisfied_at + standing.run.pace.lease_s
        if self._is_for_others_to_decide(now):
            return False
        if not standing.coordinator:
            # In a term promised before a restart this peer may have followed someone it has forgotten.
            if self._promised_before_start and patient:
                return False
        elif self._is_satisfactory(now):
            self._satisfied_at = now
            return False
        elif patient and self._is_alive(standing.coordinator, now):
            return False
        # Whoever can't hear a quorum had better not unsettle one. To a peer that has just turned deaf, others
        # may seem to outlive the coordinator by a moment: they must have been heard of late.
        recent = standing.run.pace.lease_s / 2
        heard = {peer for peer in standing.live(now) if standing.unseen_s(peer, now) < recent}
        if not standing.is_quorum({*heard, standing.me}, standing.departed(now)):
            return False
        return self._enter(standing.term + 1, self._first_in_line(standing.term + 1, now, may_lead), now)

    def _is_for_others_to_decide(self, now: float) -> bool:
        standing = self._standing
        electors, ahead = standing.electors, standing.ahead(now)
        if electors and standing.me not in electors and not electors.isdisjoint(standing.live(now)):
            return True
        return bool(ahead) and not (electors and electors.isdisjoint(ahead))

    def _is_alive(self, peer: str, now: float) -> bool:
        return peer == self._standing.me or peer in self._standing.live(now)

    def _is_satisfactory(self, now: float) -> bool:
        standing = self._standing
        if not self._is_alive(standing.coordinator, now):
            return False
        record = standing.live(now).get(standing.coordinator)
        if record and (record.round_id < standing.round_id or record.phase is Phase.REPAIR):
            return False
        if record and record.term > standing.term:
            return False  # it has gone on to a later term
        if standing.is_established(standing.term, standing.coordinator, now):
            # A coordinator that is heard but hears nobody, would keep all others waiting for ever.
            return record is None or record.acts or record.round_id > standing.round_id
        rivals = {who for (term, who) in self._followed_by_others() if term == standing.term}
        return rivals <= {standing.coordinator}

    def _first_in_line(self, term: int, now: float, may_lead: bool) -> str:
        standing = self._standing
        fit = {
            peer
            for peer, record in standing.live(now).items()
            if peer != standing.me
            and record.round_id >= standing.round_id
            and record.phase is not Phase.REPAIR
        }
        if may_lead:
            fit.add(standing.me)
        electors = fit & standing.electors
        return first_in_line(standing.run.run_id, term, electors or fit)

    def _enter(self, term: int, coordinator: str, now: float) -> bool:
        if not coordinator:
            return False
        self._standing.term, self._standing.coordinator = term, coordinator
        self._satisfied_at = now
        return True
