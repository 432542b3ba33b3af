"""What one peer knows of the round and of the others: the facts that the protocol decides on.

Liveness is judged by when *this* peer last saw something new from another, never by the other's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from paceline.core import chain
from paceline.core.config import RunConfig
from paceline.core.election import has_quorum
from paceline.core.records import (
    Ballot,
    CommitRecord,
    GlobalState,
    PeerRecord,
    Phase,
    Record,
    RoundPlan,
    RoundReceipt,
)

_NEVER = float("-inf")
_UNFIT = (Phase.APPLY, Phase.REPAIR)
_MOST_OF_AN_AUTHOR = 64
"""So many receipts, and so many plans, of one author in one round are kept: nobody can fill the memory."""


class Sighting(NamedTuple):
    """Another peer's latest heartbeat.

    Attributes:
        record: What it said.
        seen_at: When this peer first saw that record, in seconds of this peer's monotonic clock.
    """

    record: PeerRecord
    seen_at: float


@dataclass
class _Views:
    """What was worked out of the heartbeats at one instant: asked for often, and dropped with any change.

    Attributes:
        at: That instant, in seconds of this peer's monotonic clock.
        live: The answer of `Standing.live`, and so on.
    """

    at: float
    live: Mapping[str, PeerRecord] | None = None
    ahead: Mapping[str, PeerRecord] | None = None
    in_sync: Mapping[str, PeerRecord] | None = None
    followers: dict[tuple[int, str], Mapping[str, PeerRecord]] = field(default_factory=dict)


@dataclass
class Standing:
    """One peer's knowledge, and the questions that the protocol asks of it.

    Attributes:
        run: The run's parameters.
        me: This peer's id.
        head: The last commit that this peer has applied.
        started_at: When this peer started, on its monotonic clock.
        term: The coordinator's term that this peer is in.
        coordinator: Whom it follows in that term, or "".
        peers: Latest heartbeat of every peer, this one included.
        receipts: Receipts for the current round or the next, with their sealed bytes, by author, round and
            ballot.
        plans: Plans for the current round by digest.
        orders: Latest plan for the current round of each coordinator.
        commits: Commits of the current round or later, with their sealed bytes, by publisher.
    """

    run: RunConfig
    me: str
    head: GlobalState
    started_at: float
    term: int = 0
    coordinator: str = ""
    peers: dict[str, Sighting] = field(default_factory=dict)
    receipts: dict[tuple[str, int, Ballot], tuple[RoundReceipt, bytes]] = field(default_factory=dict)
    plans: dict[str, RoundPlan] = field(default_factory=dict)
    orders: dict[str, RoundPlan] = field(default_factory=dict)
    commits: dict[str, tuple[CommitRecord, bytes]] = field(default_factory=dict)
    _views: _Views | None = field(default=None, compare=False)
    _electors: frozenset[str] | None = field(default=None, compare=False)
    _all_seen_at: float = field(default=_NEVER, compare=False)  # no elector was last seen before

    @property
    def round_id(self) -> int:
        """The round being worked on."""
        return self.head.round_id + 1

    @property
    def electors(self) -> frozenset[str]:
        """Members of the last committed roster; none before round 1 of a run without founders."""
        if self._electors is None:
            self._electors = chain.electorate(self.head)
        return self._electors

    def notice(self, record: Record, sealed: bytes, now: float) -> None:
        """Take in a record of anyone's, this peer included.

        Args:
            record: A record whose signature and schema hold.
            sealed: Its sealed bytes.
            now: Monotonic seconds.
        """
        if record.run_id != self.run.run_id:
            return
        if isinstance(record, PeerRecord):
            known = self.peers.get(record.peer_id)
            if known is None or record.seq > known.record.seq:
                self.peers[record.peer_id] = Sighting(record, now)
                self._views = None
        elif isinstance(record, CommitRecord):
            if record.state.round_id >= self.round_id:
                self.commits[record.peer_id] = (record, sealed)
        elif isinstance(record, RoundReceipt | RoundPlan) and 0 <= record.round_id - self.round_id <= 1:
            # Others may be one round ahead. What claims to be further ahead is of no use here.
            self._notice_attempt(record, sealed)

    def move_to(self, head: GlobalState, now: float) -> None:
        """Stand on a new commit, and forget what concerned earlier rounds, and peers long gone.

        Args:
            head: The commit just applied.
            now: Monotonic seconds.
        """
        self.head, self._electors, self._all_seen_at = head, None, _NEVER
        self.receipts = {k: v for k, v in self.receipts.items() if v[0].round_id >= self.round_id}
        self.plans = {k: v for k, v in self.plans.items() if v.round_id >= self.round_id}
        self.orders = {k: v for k, v in self.orders.items() if v.round_id >= self.round_id}
        self.commits = {k: v for k, v in self.commits.items() if v[0].state.round_id >= self.round_id}
        forgettable = self.run.quorum.departure_s
        self.peers = {
            peer: seen
            for peer, seen in self.peers.items()
            if peer == self.me or peer in self.electors or now - seen.seen_at < forgettable
        }
        self._views = None

    def stood_still(self, seconds: float, now: float) -> None:
        """Hold nobody's silence against them while this peer itself was stopped.

        Args:
            seconds: For how long it was.
            now: Monotonic seconds; what was read on waking was seen then, and not later.
        """
        self.started_at += seconds
        self.peers = {
            peer: Sighting(seen.record, min(now, seen.seen_at + seconds)) for peer, seen in self.peers.items()
        }
        self._views = None

    def live(self, now: float) -> Mapping[str, PeerRecord]:
        """Find the peers whose heartbeat keeps coming.

        Args:
            now: Monotonic seconds.

        Returns:
            Their latest records; this peer always counts while it is not leaving.
        """
        views = self._views_at(now)
        if views.live is None:
            lease_s = self.run.pace.lease_s
            views.live = {
                peer: seen.record
                for peer, seen in self.peers.items()
                if (now - seen.seen_at < lease_s or peer == self.me) and seen.record.phase is not Phase.LEAVE
            }
        return views.live

    def ahead(self, now: float) -> Mapping[str, PeerRecord]:
        """Find the live peers that work on a later round.

        Args:
            now: Monotonic seconds.

        Returns:
            Their latest records.
        """
        views = self._views_at(now)
        if views.ahead is None:
            round_id, live = self.round_id, self.live(now)
            views.ahead = {peer: record for peer, record in live.items() if record.round_id > round_id}
        return views.ahead

    def in_sync(self, now: float) -> Mapping[str, PeerRecord]:
        """Find the live peers that stand on the same commit and are fit to take part.

        Args:
            now: Monotonic seconds.

        Returns:
            Their latest records.
        """
        views = self._views_at(now)
        if views.in_sync is None:
            round_id, head_digest = self.round_id, self.head.digest()
            views.in_sync = {
                peer: record
                for peer, record in self.live(now).items()
                if record.round_id == round_id
                and record.head_digest == head_digest
                and record.phase not in _UNFIT
            }
        return views.in_sync

    def departed(self, now: float) -> tuple[str, ...]:
        """Find the members of the last roster that count as gone for good.

        Args:
            now: Monotonic seconds.

        Returns:
            Peer ids, sorted.
        """
        patience_s = self.run.quorum.departure_s
        if now < self._all_seen_at + patience_s:
            return ()
        seen_at = {peer: self._last_seen_at(peer) for peer in self.electors if peer != self.me}
        self._all_seen_at = min(seen_at.values(), default=now)
        return tuple(sorted(peer for peer, at in seen_at.items() if now - at >= patience_s))

    def unseen_s(self, peer: str, now: float) -> float:
        """Tell for how long nothing new came from a peer.

        Args:
            peer: Its id.
            now: Monotonic seconds.

        Returns:
            Seconds since its last new heartbeat, or since this peer started.
        """
        return now - self._last_seen_at(peer)

    def is_quorum(self, voters: Collection[str], departed: Collection[str]) -> bool:
        """Decide whether these peers may act for the swarm in the current round.

        Args:
            voters: Peer ids.
            departed: Members of the last roster that don't count.

        Returns:
            What `paceline.core.election.has_quorum` says.
        """
        return has_quorum(
            voters,
            self.electors.difference(departed),
            run_id=self.run.run_id,
            min_members=self.run.quorum.min_members,
        )

    def followers(self, term: int, coordinator: str) -> Mapping[str, PeerRecord]:
        """Find the peers that have said, in this round, that they follow a coordinator in a term.

        Such a record is also a promise never to vote in an earlier term, and carries the author's last vote.

        Args:
            term: The term.
            coordinator: Whom.

        Returns:
            Their latest records.
        """
        kept = self._views_at(self._views.at if self._views else _NEVER).followers
        if (term, coordinator) not in kept:
            round_id = self.round_id
            kept[term, coordinator] = {
                peer: seen.record
                for peer, seen in self.peers.items()
                if seen.record.term == term
                and seen.record.coordinator == coordinator
                and seen.record.round_id == round_id
            }
        return kept[term, coordinator]

    def is_established(self, term: int, coordinator: str, now: float) -> bool:
        """Decide whether a quorum follows a coordinator: at most one per term and round ever has that.

        Args:
            term: The term.
            coordinator: Whom.
            now: Monotonic seconds.

        Returns:
            Whether its plans may be made and its commits published.
        """
        return bool(coordinator) and self.is_quorum(self.followers(term, coordinator), self.departed(now))

    def hears_quorum(self, now: float) -> bool:
        """Decide whether this peer, as coordinator, hears a quorum of followers right now.

        Args:
            now: Monotonic seconds.

        Returns:
            Like `is_established` for this peer, but among the living only.
        """
        heard = self.followers(self.term, self.me).keys() & self.live(now).keys()
        return self.is_quorum(heard, self.departed(now))

    def receipts_of(self, ballot: Ballot) -> dict[str, RoundReceipt]:
        """Collect the receipts of one attempt of the current round.

        Args:
            ballot: The attempt.

        Returns:
            Receipts by author.
        """
        return {
            peer: receipt
            for (peer, round_id, of_ballot), (receipt, _) in self.receipts.items()
            if (round_id, of_ballot) == (self.round_id, ballot)
        }

    def sealed_backing(self, commit: CommitRecord) -> tuple[bytes, ...]:
        """Collect the sealed receipts that back a commit.

        Args:
            commit: The commit.

        Returns:
            Sealed receipts, sorted by author.
        """
        voted = chain.backers(commit, list(self.receipts_of(commit.ballot).values()))
        return tuple(self.receipts[peer, self.round_id, commit.ballot][1] for peer in sorted(voted))

    def _last_seen_at(self, peer: str) -> float:
        seen = self.peers.get(peer)
        return seen.seen_at if seen else self.started_at

    def _views_at(self, now: float) -> _Views:
        views = self._views
        if views is None or views.at != now:
            views = self._views = _Views(now)
        return views

    def _notice_attempt(self, record: RoundReceipt | RoundPlan, sealed: bytes) -> None:
        if isinstance(record, RoundReceipt):
            self.receipts.setdefault((record.peer_id, record.round_id, record.ballot), (record, sealed))
            mine = [key for key in self.receipts if key[:2] == (record.peer_id, record.round_id)]
            for key in mine[:-_MOST_OF_AN_AUTHOR]:
                del self.receipts[key]
            return
        known = self.orders.get(record.peer_id)
        if known is None or (record.round_id, record.ballot) > (known.round_id, known.ballot):
            self.orders[record.peer_id] = record
        self.plans.setdefault(record.digest(), record)
        # A plan that somebody voted for may still have to be finished.
        voted = {seen.record.vote.plan_digest for seen in self.peers.values() if seen.record.vote}
        spare = [key for key, p in self.plans.items() if p.peer_id == record.peer_id and key not in voted]
        for digest in spare[:-_MOST_OF_AN_AUTHOR]:
            del self.plans[digest]
