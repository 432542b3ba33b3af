"""Why a peer got what it got in a round: which phase it missed, or which check it failed. Pure.

    reason = explain(peer_id, 7, evidence)
    print(reason.said, reason.advice)

What is known differs from source to source (`paceline.watch.inquiry`): a log tells who took part and nothing
of the others, a monitor's history what they did, a local run's folder everything. What is not known is not
made up: then the reason says where to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from paceline.core.members import MAX_OVER_MEDIAN, most_sensible
from paceline.core.nicknames import named
from paceline.core.records import MAX_MEMBERS, Frozen
from paceline.watch.evidence import Evidence, Glimpse

Kind = Literal[
    "credited",
    "credited_less",
    "trained_nothing",
    "not_heard",
    "repairing",
    "other_head",
    "behind",
    "restarted",
    "left",
    "failed",
    "waits_for_turn",
    "not_committed",
    "voided",
    "not_begun",
    "no_round",
    "unknown_peer",
    "untold",
]
_MISSED: dict[Kind, str] = {
    "trained_nothing": "train",
    "not_heard": "plan",
    "repairing": "plan",
    "other_head": "plan",
    "behind": "plan",
    "restarted": "plan",
    "left": "plan",
    "waits_for_turn": "plan",
    "failed": "reduce",
}


class Reason(Frozen):
    """Why a peer got what it got in a round."""

    peer_id: str
    """Who."""
    round_id: int
    """In which round."""
    kind: Kind
    """What happened, for programs."""
    missed: str
    """The phase that it missed: `train`, `plan`, `reduce`; empty when it missed none, or nobody knows."""
    credited: int
    """Sequences that it was credited."""
    trained: int | None
    """Sequences that it had trained on by its own account; None when that is not known."""
    blamed_by: tuple[str, ...] = ()
    """Peer ids of those who held it responsible for a failed all-reduce, as far as they are known."""
    said: str
    """What happened, in one sentence."""
    advice: str
    """What to do about it; empty when all is as it should be."""


def explain(peer_id: str, round_id: int, evidence: Evidence) -> Reason:
    """Say why a peer got what it got in a round.

    Args:
        peer_id: Who.
        round_id: In which round.
        evidence: What is known of that round and that peer.

    Returns:
        The reason.
    """
    case = _Case(peer_id, round_id, evidence)
    if peer_id not in evidence.known:
        return case.unknown_peer()
    if not 1 <= round_id <= evidence.run.rounds:
        return case.no_round()
    if round_id > evidence.height:
        return case.not_committed()
    if peer_id in evidence.members:
        return case.credited()
    return case.left_out()


class _Case:
    def __init__(self, peer_id: str, round_id: int, evidence: Evidence) -> None:
        self.peer, self.round, self.known = peer_id, round_id, evidence
        self.name = named(peer_id)

    def reason(
        self, kind: Kind, said: str, advice: str, credited: int = 0, blamed_by: Iterable[str] = ()
    ) -> Reason:
        return Reason(
            peer_id=self.peer,
            round_id=self.round,
            kind=kind,
            missed=_MISSED.get(kind, ""),
            credited=credited,
            trained=self.known.trained,
            blamed_by=tuple(sorted(set(blamed_by) - {""})),
            said=said,
            advice=advice,
        )

    def unknown_peer(self) -> Reason:
        said = f"nobody called {self.peer} is known in {self.known.run.run_id}"
        return self.reason("unknown_peer", said, "paceline status RUN lists who is there, with their names")

    def no_round(self) -> Reason:
        said = f"{self.known.run.run_id} has rounds 1 to {self.known.run.rounds}, and no round {self.round}"
        return self.reason("no_round", said, "name one of them with --round")

    # A round that is not committed

    def not_committed(self) -> Reason:
        known = self.known
        if self.round > known.height + 1:
            said = f"round {self.round} has not begun: the last committed one is round {known.height}"
            return self.reason("not_begun", said, "wait for it")
        now = self._now()
        if known.voids:
            given_up = "; ".join(f"attempt {n}: {cause}" for n, cause in sorted(known.voids.items()))
            against = [blame.teller for blame in known.blames if blame.blamed == self.peer]
            said = f"round {self.round} is not committed yet, and was given up so far: {given_up}{now}"
            if against:
                said += f"; {_names(against)} blamed {self.name}"
            advice = "nothing is lost by that: it is tried again without those who failed"
            return self.reason("voided", said, advice, blamed_by=against)
        if len(known.planned) >= MAX_MEMBERS and self.peer not in known.planned:
            return self.waits_for_turn()
        said = f"round {self.round} is not committed yet{now}"
        return self.reason("not_committed", said, "wait: credits are counted when a round commits")

    def _now(self) -> str:
        seen = self.known.glimpse
        if seen is None or seen.round_id != self.round:
            return ""
        return f"; {self.name} has trained on {seen.samples:,} sequences in it ({seen.standing})"

    # A round that is committed, with the peer

    def credited(self) -> Reason:
        credited = dict(zip(self.known.members, self.known.samples, strict=True))[self.peer]
        trained = self.known.trained
        if not credited:
            said = f"{self.name} was a member of round {self.round} that had trained on nothing"
            return self.reason("trained_nothing", said, self._train_more())
        if trained is None or trained <= credited:
            said = f"{self.name} was credited {credited:,} sequences in round {self.round}"
            said += ", all that it trained on" if trained is not None else ""
            return self.reason("credited", said, "", credited)
        said = f"{self.name} was credited {credited:,} of {trained:,} sequences in round {self.round}"
        if credited == most_sensible(self.known.samples):
            said += f": nobody counts more than {MAX_OVER_MEDIAN} times the median member"
            return self.reason("credited_less", said, "lower its batch: more is not counted", credited)
        said += ": the rest came after the coordinator had looked, when the others had finished"
        advice = "nothing, if it is rare; a peer that is always slower than the others stops a little late"
        return self.reason("credited_less", said, advice, credited)

    # A round that is committed, without the peer

    def left_out(self) -> Reason:
        known = self.known
        if any(self.peer in (blame.blamed, blame.teller) for blame in known.blames):
            return self.failed()
        seen = known.glimpse
        if not known.watched:
            return self.failed() if known.took_part else self.untold()
        if seen is None:
            said = f"{self.name} was not heard of before round {self.round} was planned"
            return self.reason("not_heard", said, "it came later; from the next round on it takes part")
        for find in (self._gone, self._restarted, self._unfit, self._idle):
            if (reason := find(seen)) is not None:
                return reason
        if known.took_part:
            return self.failed()
        if len(known.members) >= MAX_MEMBERS:
            return self.waits_for_turn()
        said = (
            f"{self.name} was at work in round {self.round}, and the coordinator did not count it: its "
            "heartbeats did not arrive in time, or it followed another coordinator"
        )
        return self.reason("not_heard", said, self._look_at_network())

    def waits_for_turn(self) -> Reason:
        said = (
            f"{self.name} was ready for round {self.round}, and its roster was full: {MAX_MEMBERS} members "
            "are the most, and in larger swarms peers take turns"
        )
        return self.reason("waits_for_turn", said, "wait: its turn comes within a few rounds")

    def failed(self) -> Reason:
        known = self.known
        against = [blame for blame in known.blames if blame.blamed == self.peer]
        own = [blame for blame in known.blames if blame.teller == self.peer and blame.cause]
        attempts = sorted(known.took_part | {blame.attempt for blame in [*own, *against]})
        which = f"attempt{'s' if len(attempts) > 1 else ''} {', '.join(map(str, attempts)) or 'unknown'}"
        said = f"{self.name} failed in the all-reduce of round {self.round} ({which}), and the round went on"
        said += " without it"
        tellers = [blame.teller for blame in against]
        if any(tellers):
            said += f"; it was blamed by {_names(tellers)}"
        elif against:
            said += "; members blamed it"
        causes = list(dict.fromkeys(blame.cause for blame in [*own, *against] if blame.cause))
        if causes:
            said += f": {'; '.join(causes[:3])}"
        return self.reason("failed", said, self._look_at_network(), blamed_by=tellers)

    def untold(self) -> Reason:
        others = len(self.known.members)
        said = (
            f"{self.name} is not among the {others} members of round {self.round}; "
            "why not, this source does not tell"
        )
        advice = "ask its own state folder, or the history of a monitor that was watching (paceline observe)"
        return self.reason("untold", said, advice)

    def _gone(self, seen: Glimpse) -> Reason | None:
        if seen.standing in ("leave", "finished"):
            said = f"{self.name} had left before round {self.round} was planned"
            return self.reason("left", said, "start it again: the same command continues where it left")
        if seen.standing == "lost" or seen.silent_s >= self.known.run.pace.lease_s:
            said = (
                f"{self.name} was not heard when round {self.round} was planned: it had been silent for "
                f"{seen.silent_s:.0f} s, and after {self.known.run.pace.lease_s:g} s a peer counts as gone"
            )
            return self.reason("not_heard", said, self._look_at_network())
        return None

    def _restarted(self, seen: Glimpse) -> Reason | None:
        known = self.known
        started, begun = known.started_at, known.begun_at
        if started is None or begun is None or started < begun:
            return None
        said = (
            f"{self.name} was started {started - begun:.0f} s after round {self.round} had begun, "
            "and what it had trained before was gone"
        )
        if seen.standing == "repair":
            said += "; it was fetching the state when the round was planned"
        advice = "see why it ended: output.txt and events.jsonl in its state folder; --supervised restarts it"
        return self.reason("restarted", said, advice)

    def _unfit(self, seen: Glimpse) -> Reason | None:
        known = self.known
        if seen.standing == "repair":
            said = f"{self.name} was repairing itself, fetching state and history, when the round was planned"
            advice = "nothing, if it had just come or was behind; if it never ends: paceline doctor RUN"
            return self.reason("repairing", said, advice)
        if seen.round_id < self.round:
            said = f"{self.name} was still in round {seen.round_id} when round {self.round} was planned"
            advice = "it repairs itself as soon as it notices; if it is always behind: paceline doctor RUN"
            return self.reason("behind", said, advice)
        if seen.round_id == self.round and seen.head and known.prev_digest and seen.head != known.prev_digest:
            said = (
                f"{self.name} stood on another commit ({seen.head[:8]}) than the members of round "
                f"{self.round} ({known.prev_digest[:8]})"
            )
            advice = "it leaves its fork by itself when it sees a quorum on the other; see paceline verify"
            return self.reason("other_head", said, advice)
        return None

    def _idle(self, seen: Glimpse) -> Reason | None:
        if seen.samples or seen.round_id != self.round:
            return None
        said = f"{self.name} had trained on nothing yet when round {self.round} was planned"
        return self.reason("trained_nothing", said, self._train_more())

    def _train_more(self) -> str:
        return "if it had just come, wait for the next round; else see its speed: paceline doctor RUN"

    def _look_at_network(self) -> str:
        return "paceline doctor RUN on its machine: is it reachable, does it run, is its clock right?"


def _names(peers: Iterable[str]) -> str:
    return ", ".join(sorted({named(peer) for peer in peers if peer}))
