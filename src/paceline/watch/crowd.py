"""The peers that a watch knows: who is here, whom they follow, and what they stand on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping

from paceline.core.config import RunConfig
from paceline.core.records import PeerRecord
from paceline.watch.picture import Picture
from paceline.watch.rounds import Led
from paceline.watch.sight import Sight

_MOST_PEERS, _MOST_TERMS, _MOST_HEADS = 256, 128, 8
_JOINS_LATER_S = 30.0


class Crowd:
    """Peers, from what they say of themselves.

    Attributes:
        sights: What is known of each, by peer id.
        coordinator: Whom most of those who are here follow.
        term: In which term.
        changes: How often another peer went to the front.
        members: Those who are, or were, in a committed roster; empty while none is known.
        first_round: The round that was in progress when the watch began; 0 before anybody was heard.
        roster: Members of the last commit: while any of them is here, strangers decide nothing.
    """

    def __init__(self, run: RunConfig, members: Collection[str]) -> None:
        """Know nobody.

        Args:
            run: The run's parameters.
            members: Those who are, or were, in a committed roster, now and whenever one is asked for.
        """
        self._run = run
        self.members = members
        self.sights: dict[str, Sight] = {}
        self.coordinator, self.term, self.changes = "", 0, 0
        self._bytes_sent_before = 0
        self.first_round = 0
        self.roster: frozenset[str] = frozenset(run.quorum.founders)
        self._began: float | None = None
        self._led: dict[tuple[int, str], set[str]] = {}
        self._stood: dict[str, deque[str]] = {}

    @property
    def led(self) -> Led:
        """Terms and coordinators that a member follows, or did, and not only the coordinator itself."""
        return [place for place in self._led if self._is_led(place)]

    @property
    def bytes_sent(self) -> int:
        """What all members sent, since the watch began."""
        counted = sum(sight.bytes_counted for sight in self.sights.values() if self.counts(sight.peer_id))
        return self._bytes_sent_before + counted

    def counts(self, peer_id: str) -> bool:
        """Decide whether what a peer says of itself counts for the swarm.

        Args:
            peer_id: Who.

        Returns:
            Whether it is a member; everybody is taken for one while none is known.
        """
        return not self.members or peer_id in self.members

    def hear(self, record: PeerRecord, now: float) -> None:
        """Take in a heartbeat.

        Args:
            record: The record.
            now: When it was first seen, in seconds since 1970.
        """
        sight = self.sight(record.peer_id, now)
        if record.coordinator and (record.coordinator != record.peer_id or self._run.quorum.min_members == 1):
            self.follow(record.term, record.coordinator, record.peer_id)
        self.stand(record.peer_id, record.head_digest)
        if record.seq <= sight.seq:
            return
        sight.hear(record, now, self._run.rounds, self._run.pace.lease_s)
        self.first_round = self.first_round or record.round_id

    def sight(self, peer_id: str, now: float) -> Sight:
        """Find a peer, or get to know it.

        Args:
            peer_id: Who.
            now: Seconds since 1970.

        Returns:
            What is known of it.
        """
        self._began = now if self._began is None else self._began
        if peer_id not in self.sights:
            if len(self.sights) >= _MOST_PEERS:  # nobody can fill the memory
                self._forget_somebody()
            self.sights[peer_id] = Sight(peer_id, seen_at=now, first_seen_at=now)
        return self.sights[peer_id]

    def stand(self, peer_id: str, digest: str) -> None:
        """Note that a peer stands on a commit.

        Args:
            peer_id: Who.
            digest: Digest of the commit.
        """
        stood = self._stood.setdefault(peer_id, deque(maxlen=_MOST_HEADS))
        if digest not in stood:
            stood.append(digest)

    def standing_on(self) -> dict[str, set[str]]:
        """Tell who stands on what.

        Returns:
            Peer ids by digest of a commit.
        """
        found: dict[str, set[str]] = {}
        for peer_id, digests in self._stood.items():
            for digest in digests:
                found.setdefault(digest, set()).add(peer_id)
        return found

    def live(self, now: float) -> list[Sight]:
        """Find who is here.

        Args:
            now: Seconds since 1970.

        Returns:
            Peers that were heard within the lease and are not leaving, sorted by peer id.
        """
        lease_s = self._run.pace.lease_s
        return [self.sights[peer] for peer in sorted(self.sights) if self.sights[peer].is_live(now, lease_s)]

    def ranked(self) -> list[Sight]:
        """Put those first who matter most.

        Returns:
            Members of the last roster, other members, strangers; each sorted by peer id.
        """
        return sorted(
            self.sights.values(),
            key=lambda s: (s.peer_id not in self.roster, not self.counts(s.peer_id), s.peer_id),
        )

    def round_of_most(self, now: float) -> int:
        """Tell which round most members that are here work on.

        Args:
            now: Seconds since 1970.

        Returns:
            The round; 0 when nobody is here.
        """
        rounds = Counter(sight.round_id for sight in self._deciding(now))
        return max(rounds, key=lambda round_id: (rounds[round_id], round_id), default=0)

    def look_ahead(self, now: float) -> None:
        """See who is at the front.

        Args:
            now: Seconds since 1970.
        """
        choices = Counter((s.term, s.coordinator) for s in self._deciding(now) if s.coordinator)
        if not choices:
            return
        term, coordinator = max(choices, key=lambda choice: (choices[choice], choice))
        if self.coordinator and coordinator != self.coordinator:
            self.changes += 1
        self.term, self.coordinator = term, coordinator

    def _deciding(self, now: float) -> list[Sight]:
        live = self.live(now)
        return [sight for sight in live if sight.peer_id in self.roster] or live

    def _forget_somebody(self) -> None:
        # Strangers first, and members that have been away for so long that they are no longer shown.
        kept_since = max(sight.seen_at for sight in self.sights.values()) - self._run.quorum.departure_s
        *_, forgotten = min(
            (
                s.peer_id in self.roster,
                s.peer_id in self.members and s.seen_at >= kept_since,
                s.seen_at,
                s.peer_id,
            )
            for s in self.sights.values()
        )
        gone = self.sights.pop(forgotten)
        if self.members and forgotten in self.members:
            self._bytes_sent_before += gone.bytes_counted
        self._stood.pop(forgotten, None)

    def count_sent(self, sight: Sight, bytes_out: int) -> None:
        """Note how much a peer has sent since it started.

        Args:
            sight: The peer.
            bytes_out: Bytes; fewer than before after a restart.
        """
        before = sight.bytes_out
        if before is None:
            # What it sent before the watch began is not counted: nor are the rounds of that time.
            joined_later = sight.first_seen_at > (self._began or 0.0) + _JOINS_LATER_S
            before = 0 if joined_later or sight.first_round == 1 else bytes_out
        sight.bytes_counted += bytes_out - before if bytes_out >= before else bytes_out
        sight.bytes_out = bytes_out

    def recall(self, last: Picture) -> None:
        """Go on from the last picture before a restart of the watch.

        Args:
            last: The picture.
        """
        for view in last.peers:
            self.sights[view.peer_id] = Sight.recalled(view, last.at)
        self.coordinator, self.term, self.changes = last.coordinator, last.term, last.coordinator_changes
        self._bytes_sent_before = last.bytes_sent

    def stood_still(self, seconds: float) -> None:
        """Hold nobody's silence against them while the watch itself was stopped.

        Args:
            seconds: For how long it was.
        """
        for sight in self.sights.values():
            sight.seen_at += seconds

    def remembered(self, roster: Collection[str], now: float) -> Mapping[str, Sight]:
        """Find those who still matter.

        Args:
            roster: Members of the last commit.
            now: Seconds since 1970.

        Returns:
            Peers seen lately, in the roster or at the end of the run, by peer id and sorted by it.
        """
        kept_s = self._run.quorum.departure_s
        return {
            peer_id: sight
            for peer_id, sight in sorted(self.sights.items())
            if (sight.is_heard and now - sight.seen_at < kept_s) or peer_id in roster or sight.finished
        }

    def follow(self, term: int, coordinator: str, follower: str) -> None:
        """Note that somebody follows a coordinator.

        Args:
            term: In which term.
            coordinator: Whom.
            follower: Who does.
        """
        followers = self._led.setdefault((term, coordinator), set())
        if len(followers) < _MOST_PEERS or follower in self.members:
            followers.add(follower)
        if len(self._led) > _MOST_TERMS:
            del self._led[min(self._led, key=lambda place: (self._is_led(place), place))]

    def _is_led(self, place: tuple[int, str]) -> bool:
        return not self.members or not self._led[place].isdisjoint(self.members)
