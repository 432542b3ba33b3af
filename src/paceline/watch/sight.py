"""One peer as a watch sees it: where it stands, since when, and what it did before."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from paceline.core.nicknames import nickname
from paceline.core.records import PeerRecord, Phase
from paceline.watch.bounds import speed
from paceline.watch.picture import PeerView, Span, Standing

_MOST_SPANS = 400
_CLOCKS_S = 3.0  # its clock may have been set: what changed did so since it was last heard
_STANDINGS: dict[str, Standing] = {
    "train": "train",
    "wait": "wait",
    "reduce": "reduce",
    "attest": "attest",
    "apply": "apply",
    "repair": "repair",
    "leave": "leave",
}


@dataclass
class Sight:
    """What is known of a peer.

    Attributes:
        peer_id: Who.
        is_heard: Whether it gave a sign of life, a heartbeat or an event; the rest may be left over.
        seen_at: When something new last came from it, by the watch's clock, in seconds since 1970.
        first_seen_at: When something first did.
        first_round: The round that it was in then.
        phase: Its phase by its own account.
        round_id: The round it works on.
        inner_step: Inner steps done in it.
        samples: Sequences trained on in it.
        samples_per_s: Its recent speed.
        loss: Mean training loss of the round so far, nats per token.
        val_loss: Loss of the last anchor that it measured, nats per token.
        term: The coordinator's term that it is in.
        coordinator: Whom it follows.
        head_digest: The commit that it stands on.
        bytes_in: Bytes of parts received since it started.
        bytes_out: Bytes of parts sent since it started.
        bytes_counted: Bytes of parts sent since the watch began.
        claimed: Its credits by its own account.
        metrics_address: Where it says to serve metrics.
        finished: Whether it has seen the run to its end.
        seq: Number of its latest heartbeat.
        spans: What it did before, in order.
    """

    peer_id: str
    seen_at: float
    first_seen_at: float
    first_round: int = 0
    is_heard: bool = False
    phase: Phase = Phase.TRAIN
    round_id: int = 0
    inner_step: int = 0
    samples: int = 0
    samples_per_s: float = 0.0
    loss: float | None = None
    val_loss: float | None = None
    term: int = 0
    coordinator: str = ""
    head_digest: str = ""
    bytes_in: int = 0
    bytes_out: int | None = None
    bytes_counted: int = 0
    claimed: int = 0
    metrics_address: str = ""
    finished: bool = False
    seq: int = -1
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=_MOST_SPANS))
    _since: float = 0.0
    _ahead_s: float = float("inf")

    def __post_init__(self) -> None:
        self._since = self.seen_at

    @classmethod
    def recalled(cls, view: PeerView, at: float) -> Sight:
        """Go on from what was shown of a peer before the watch was started again.

        Args:
            view: What was shown.
            at: When, in seconds since 1970.

        Returns:
            The peer as it was last seen.
        """
        seen_at = at - view.seen_s
        sight = cls(
            view.peer_id, seen_at=seen_at, first_seen_at=seen_at, round_id=view.round_id, is_heard=True
        )
        with suppress(ValueError):  # `lost` and `finished` are no phases
            sight.phase = Phase(view.standing)
        sight.finished = view.standing == "finished"
        sight.inner_step, sight.samples = view.inner_step, view.samples
        sight.loss, sight.val_loss, sight.claimed = view.loss, view.val_loss, view.credits
        sight.bytes_in, sight.bytes_out = view.bytes_in, view.bytes_out
        sight.metrics_address = view.metrics_address
        return sight

    def hear(self, record: PeerRecord, now: float, rounds: int, lease_s: float) -> None:
        """Take in a heartbeat.

        Args:
            record: A newer one than before.
            now: When it was first seen, in seconds since 1970.
            rounds: Rounds of the whole run.
            lease_s: A peer that is silent for so long is lost.
        """
        if self.seq < 0:
            if self._repeats(record) and self.standing(now, lease_s) == "lost":
                self.seq = record.seq  # what it said last, still on the board
                return
            self.first_round = record.round_id
            if not self.is_heard:
                self.is_heard, self.first_seen_at = True, now
            self.begin(now)
        elif self.standing(now, lease_s) == "lost":
            self.was_lost(now)
        self.seq = record.seq
        # Its own clock tells to the millisecond when the phase began; ours tells how far that clock is off.
        self._ahead_s = min(self._ahead_s, now - record.seq / 1000)
        self.move(record.phase, record.round_id, record.seq / 1000 + self._ahead_s)
        self.seen_at = now
        self.inner_step, self.samples = record.inner_step, record.samples
        self.samples_per_s = record.samples_per_s
        self.loss = record.loss if record.samples else None
        self.term, self.coordinator = record.term, record.coordinator
        self.head_digest, self.metrics_address = record.head_digest, record.metrics_address
        self.finished = record.round_id > rounds

    def move(self, phase: Phase, round_id: int, at: float) -> None:
        """Enter a phase of a round, or stay in it.

        Args:
            phase: Which.
            round_id: Of which round.
            at: When, in seconds since 1970; no earlier than the last phase began.
        """
        if (phase, round_id) != (self.phase, self.round_id):
            at = max(at, self._since, self.seen_at - _CLOCKS_S)
            if self.round_id:
                self._close(at)
            if round_id != self.round_id:
                self.inner_step, self.samples, self.loss = 0, 0, None
            self.phase, self.round_id, self._since = phase, round_id, at

    def begin(self, at: float) -> None:
        """Forget what it did until now: nobody watched.

        Args:
            at: Since when it is watched, in seconds since 1970.
        """
        self.round_id, self._since, self.seen_at = 0, at, at

    def was_lost(self, at: float) -> None:
        """Note that it is back after having been lost.

        Args:
            at: When it came back, in seconds since 1970.
        """
        self._close(self.seen_at)
        self.spans.append(self._span("lost", self.seen_at, at))
        self._since = at

    def standing(self, now: float, lease_s: float) -> Standing:
        """Tell where it stands.

        Args:
            now: Seconds since 1970.
            lease_s: A peer that is silent for so long is lost.

        Returns:
            Its phase, or `lost`, or `finished`.
        """
        if self.finished:
            return "finished"
        if not self.is_heard:
            return "lost"
        if self.phase is not Phase.LEAVE and now - self.seen_at >= lease_s:
            return "lost"
        return _STANDINGS[self.phase]

    def is_live(self, now: float, lease_s: float) -> bool:
        """Tell whether it counts as here.

        Args:
            now: Seconds since 1970.
            lease_s: A peer that is silent for so long is lost.

        Returns:
            Whether it was heard lately and is not leaving.
        """
        return self.is_heard and now - self.seen_at < lease_s and self.phase is not Phase.LEAVE

    def spans_until(self, now: float, lease_s: float) -> list[Span]:
        """Tell what it did, up to now.

        Args:
            now: Seconds since 1970.
            lease_s: A peer that is silent for so long is lost.

        Returns:
            Stretches of time in order, the one that lasts ending now.
        """
        standing = self.standing(now, lease_s)
        if not self.round_id or standing == "finished":
            return list(self.spans)
        if standing == "lost":
            ends = [self._span(_STANDINGS[self.phase], self._since, self.seen_at)]
            return [*self.spans, *ends, self._span("lost", self.seen_at, now)]
        return [*self.spans, self._span(standing, self._since, max(now, self._since))]

    def view(self, now: float, lease_s: float, tokens_per_sample: int) -> PeerView:
        """Show it; who is at the front, its credits and whether it is reachable are for others to say.

        Args:
            now: Seconds since 1970.
            lease_s: A peer that is silent for so long is lost.
            tokens_per_sample: Tokens of one sequence.

        Returns:
            The peer.
        """
        samples_per_s = speed(self.samples_per_s) if self.is_live(now, lease_s) else 0.0
        return PeerView(
            peer_id=self.peer_id,
            nickname=nickname(self.peer_id),
            standing=self.standing(now, lease_s),
            round_id=self.round_id,
            inner_step=self.inner_step,
            samples=self.samples,
            samples_per_s=samples_per_s,
            tokens_per_s=samples_per_s * tokens_per_sample,
            loss=self.loss,
            val_loss=self.val_loss,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out or 0,
            credits=self.claimed,
            seen_s=max(0.0, now - self.seen_at),
            metrics_address=self.metrics_address,
        )

    def _repeats(self, record: PeerRecord) -> bool:
        mine = (self.round_id, self.inner_step, self.samples)
        return bool(self.round_id) and mine == (record.round_id, record.inner_step, record.samples)

    def _close(self, at: float) -> None:
        if at > self._since and not self.finished:
            self.spans.append(self._span(_STANDINGS[self.phase], self._since, at))

    def _span(self, standing: Standing, begin: float, end: float) -> Span:
        return Span(
            peer_id=self.peer_id, round_id=self.round_id, standing=standing, begin=begin, end=max(begin, end)
        )
