"""A swarm from what is said of it: signed records from the board, or events of a local run. Pure.

    swarm = Swarm(run, parameters)
    swarm.take(record, now)
    print(swarm.picture(now).rounds_committed)

Nobody is believed more than has to be. A commit counts when a quorum stands behind it (`watch/commits.py`), a
plan when somebody follows its author, and what a peer says of itself concerns itself. Whether a peer is here
is judged by when this watch last heard something new from it.

Credits are the fold over the commits where the watch has all of them, from the first round on. Where it has
not, they are what each peer claims, or what the commits seen here give it, whichever is more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paceline.core.config import RunConfig
from paceline.core.election import quorum_size
from paceline.core.events import Event
from paceline.core.records import (
    MAX_MEMBERS,
    CommitRecord,
    CreditRecord,
    PeerRecord,
    Record,
    RoundPlan,
    RoundReceipt,
    WorkerMetrics,
)
from paceline.watch.chronicle import Chronicle
from paceline.watch.commits import Footing
from paceline.watch.crowd import Crowd
from paceline.watch.picture import PeerView, Picture, RoundView, Span
from paceline.watch.source import ROUNDS_SHOWN
from paceline.watch.telling import Telling

ROUNDS_WITH_SPANS = 5
"""The timeline goes so far back."""
MOST_SPANS_OF_A_PEER = 128
"""So many of a peer's latest spans are in a picture."""
MOST_SPANS = MAX_MEMBERS * MOST_SPANS_OF_A_PEER
"""So many spans are in a picture: those of the last roster always fit, and strangers get what is left."""
_OfARound = PeerRecord | RoundPlan | RoundReceipt | WorkerMetrics
_STEP_BYTES = 8  # a ring all-reduce of n float32 sends 2 * 4 * (m - 1) * n bytes over all of its m members


class Swarm:
    """What a watch knows of a swarm.

    Guarantees:
        Strangers crowd out no member and are in no total.
        The order in which records come makes no difference to the rounds.
        No sequence of valid records makes a picture fail.
        Only a heartbeat is a sign of life.
        A silent peer is lost after its lease.

    Attributes:
        run: The run's parameters.
        crowd: The peers.
        chronicle: The rounds.
        begin: When the watch began, in seconds since 1970, if anybody has told.
    """

    def __init__(self, run: RunConfig, parameters: int, *, is_live: bool = True) -> None:
        """Know nothing yet.

        Args:
            run: The run's parameters.
            parameters: Weights of the model.
            is_live: Whether this is no replay.
        """
        self.run = run
        self.begin: float | None = None
        self.chronicle = Chronicle(run)
        self.crowd = Crowd(run, self.chronicle.members)
        self._parameters, self._is_live = parameters, is_live
        self._telling = Telling(run, self.crowd, self.chronicle)
        self._reachable: dict[str, tuple[str, bool]] = {}
        self._before: Picture | None = None

    def take(self, record: Record, now: float) -> None:
        """Take in a record from the board.

        Args:
            record: Its signature and schema hold.
            now: When it was first seen, in seconds since 1970, by the watch's own clock.
        """
        if record.run_id != self.run.run_id:
            return
        self.chronicle.is_stale = True
        match record:
            case PeerRecord():
                self.crowd.hear(record, now)
                self._note(record.round_id, record)
            case RoundPlan() | RoundReceipt():
                self._note(record.round_id, record)
            case CommitRecord():
                facts = self.chronicle.facts_of(record.state.round_id)
                if facts is not None and facts.take(record):
                    facts.see(record.state.digest(), now)
            case WorkerMetrics():
                self._note(record.round_id, record)
                self._measure(record, now)
            case CreditRecord():
                self.crowd.stand(record.peer_id, record.head_digest)
                self.crowd.sight(record.peer_id, now).claimed = record.balance
            case _:
                pass

    def take_link(
        self, commit: CommitRecord, receipts: Sequence[RoundReceipt], at: float | None = None
    ) -> None:
        """Take in a row of a history that verifies.

        Args:
            commit: The commit, which follows the one before and is backed by a quorum.
            receipts: The receipts that back it.
            at: When it was made, in seconds since 1970; by its author's clock when left out.
        """
        at = commit.seq / 1000 if at is None else at
        self.chronicle.add(commit, receipts, at)
        for peer_id in commit.state.participating_nodes:
            # In a replay it is all there is to see of a member; in a live swarm it may be gone by now.
            self.crowd.sight(peer_id, at).is_heard |= not self._is_live

    def here(self, peer_id: str, now: float) -> None:
        """Note that a peer is alive, though nothing new came from it.

        Args:
            peer_id: Who.
            now: Seconds since 1970.
        """
        sight = self.crowd.sight(peer_id, now)
        sight.is_heard, sight.seen_at = True, max(sight.seen_at, now)

    def take_event(self, peer_id: str, time: float, event: Event) -> None:
        """Take in what a peer wrote into its event file.

        Args:
            peer_id: Whose file it is.
            time: When it happened, in seconds since 1970.
            event: What happened.
        """
        self._telling.take(peer_id, time, event)

    def recall(self, last: Picture) -> None:
        """Go on from the last picture that was taken before a restart.

        Args:
            last: With all rounds that are known.
        """
        self.chronicle.recall(view for view in last.rounds if view.committed_at is not None)
        self.crowd.recall(last)
        self._before = last

    def judge(self, announced: Mapping[str, str], verdicts: Mapping[str, bool | None]) -> None:
        """Note who serves the address that it announces. A peer that announces another has proven nothing.

        Args:
            announced: The addresses that were asked, by peer id.
            verdicts: Whether a peer has proven so, by peer id; None when nobody has asked it.
        """
        self._reachable = {
            peer: (announced[peer], verdict) for peer, verdict in verdicts.items() if verdict is not None
        }

    def announced(self, now: float) -> dict[str, str]:
        """Collect where peers say to serve their metrics.

        Args:
            now: Seconds since 1970.

        Returns:
            `host:port` by peer id, of those who are here and announce one.
        """
        return {s.peer_id: s.metrics_address for s in self.crowd.live(now) if s.metrics_address}

    def missing(self, now: float) -> tuple[Footing | None, list[str]]:
        """Tell what history should be fetched; ask after `picture`.

        Args:
            now: Seconds since 1970.

        Returns:
            The commit after which something is missing, or None, and who should have it.
        """
        whole, tip = self.chronicle.whole_until, self.chronicle.tip
        live = self.crowd.live(now)
        if whole == tip and tip.round_id >= self.crowd.round_of_most(now) - 1:
            return None, []
        return whole, [sight.peer_id for sight in live if sight.round_id > whole.round_id + 1]

    def picture(self, now: float, rounds: int | None = ROUNDS_SHOWN) -> Picture:
        """Tell how the swarm stands.

        Args:
            now: Seconds since 1970.
            rounds: How many of the latest rounds to show, the one in progress included; None for all.

        Returns:
            The picture.
        """
        run, crowd, chronicle = self.run, self.crowd, self.chronicle
        crowd.look_ahead(now)
        expected = crowd.round_of_most(now)
        chronicle.refresh(crowd.standing_on(), crowd.led, expected)
        crowd.roster = chronicle.tip.roster
        height = min(max(chronicle.height, expected - 1), run.rounds)
        shown = chronicle.views(None if rounds is None else max(rounds - 1, 0))
        last_commit_at = shown[-1].committed_at if shown else None
        unfinished = self._unfinished(height + 1, now)
        shown += unfinished if rounds != 0 else []
        needed, here = self._quorum(now)
        return Picture(
            run_id=run.run_id,
            at=now,
            is_live=self._is_live,
            rounds_planned=run.rounds,
            inner_steps=run.timetable.steps_of(min(height + 1, run.rounds)),
            tokens_per_sample=run.model.seq_len,
            parameters=self._parameters,
            lease_s=run.pace.lease_s,
            coordinator=crowd.coordinator,
            term=crowd.term,
            coordinator_changes=crowd.changes,
            peers=self._peers(now),
            rounds=tuple(shown),
            spans=self._spans(shown, now),
            rounds_committed=height,
            attempts_voided=chronicle.voided + sum(len(view.voids) for view in unfinished),
            last_commit_at=last_commit_at,
            ready_since=None if height else self._ready_since(needed, now),
            bytes_sent=crowd.bytes_sent,
            data_parallel_bytes=self._data_parallel_bytes(),
            quorum_needed=needed,
            quorum_here=here,
            begin=self.begin,
            heard_at=max((sight.seen_at for sight in crowd.sights.values() if sight.is_heard), default=None),
        )

    def _unfinished(self, round_id: int, now: float) -> list[RoundView]:
        if round_id > self.run.rounds or not self.crowd.sights:
            return []
        begun = [sight.peer_id for sight in self.crowd.live(now) if sight.round_id == round_id]
        return [self.chronicle.in_progress(round_id, self.crowd.led, begun)]

    def _peers(self, now: float) -> tuple[PeerView, ...]:
        run, crowd, chronicle = self.run, self.crowd, self.chronicle
        counted, is_whole = chronicle.credits(), chronicle.is_whole
        views = []
        for peer_id, sight in crowd.remembered(chronicle.tip.roster, now).items():
            view = sight.view(now, run.pace.lease_s, run.model.seq_len)
            is_member, proven = crowd.counts(peer_id), counted.get(peer_id, 0)
            asked, is_reachable = self._reachable.get(peer_id, ("", None))
            known = {
                "is_coordinator": peer_id == crowd.coordinator,
                "is_member": is_member,
                "credits": proven if is_whole or not is_member else max(proven, view.credits),
                "is_reachable": is_reachable if asked == view.metrics_address else None,
            }
            views.append(view.model_copy(update=known))
        return tuple(views)

    def _spans(self, shown: Sequence[RoundView], now: float) -> tuple[Span, ...]:
        ends = [view.committed_at for view in shown if view.committed_at is not None]
        since = ends[-ROUNDS_WITH_SPANS] if len(ends) >= ROUNDS_WITH_SPANS else float("-inf")
        found: list[Span] = []
        for sight in self.crowd.ranked():
            late = [span for span in sight.spans_until(now, self.run.pace.lease_s) if span.end > since]
            found += late[-MOST_SPANS_OF_A_PEER:]
        return tuple(sorted(found[:MOST_SPANS], key=lambda span: (span.begin, span.peer_id)))

    def _quorum(self, now: float) -> tuple[int, int]:
        least, roster = self.run.quorum.min_members, self.chronicle.tip.roster
        live = {sight.peer_id for sight in self.crowd.live(now)}
        return quorum_size(roster, least), len(live & roster if roster else live)

    def _ready_since(self, needed: int, now: float) -> float | None:
        came = sorted(
            sight.first_seen_at for sight in self.crowd.live(now) if self.crowd.counts(sight.peer_id)
        )
        return came[needed - 1] if len(came) >= needed else None

    def _data_parallel_bytes(self) -> int:
        # Of the rounds for which it is known what was sent, and of no others.
        if not self.crowd.bytes_sent:
            return 0
        before, after = 0, self.crowd.first_round - 1
        if self._before is not None:
            before, after = self._before.data_parallel_bytes, self._before.rounds_committed
        num_steps = self.chronicle.others_steps_after(after, self.run.timetable)
        return before + num_steps * _STEP_BYTES * self._parameters

    def _note(self, round_id: int, record: _OfARound) -> None:
        facts = self.chronicle.facts_of(round_id)
        if facts is not None:
            facts.take(record)

    def _measure(self, record: WorkerMetrics, now: float) -> None:
        sight = self.crowd.sight(record.peer_id, now)
        sight.bytes_in, sight.val_loss = record.bytes_in, record.val_loss
        self.crowd.count_sent(sight, record.bytes_out)
