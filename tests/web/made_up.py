"""A made-up run to look at: its numbers come from a fixed seed, its format is the real one.

It has what a page must show well: a slow peer that others wait for, an attempt that was given up, a peer that
is lost together with its turn at the front, and one that joins late.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from paceline.core.config import RunConfig
from paceline.core.nicknames import nickname
from paceline.simulate.swarm import peer_name, virtual_run
from paceline.watch.picture import PeerView, Picture, RoundView, Span, Standing, VoidView

BEGIN = 1.76e9
TOKENS, BATCH, PARAMETERS, LEASE_S = 512, 8, 12_582_912, 12.0


def digest(*parts: object) -> str:
    """Make something that looks like a digest, the same every time."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class MadeUpRun:
    """A run of some peers: who does what from when on.

    Attributes:
        num_peers: How many peers take part.
        rounds: Rounds until it is finished.
        inner_steps: Inner steps per round.
        lost_in: Round in which the peer at the front is lost; 0 for none.
        voided_in: Round whose first attempt is given up; 0 for none.
        late_in: Round with which the last peer begins.
        cause: Why that attempt was given up.
    """

    num_peers: int = 8
    rounds: int = 40
    inner_steps: int = 120
    lost_in: int = 21
    voided_in: int = 22
    late_in: int = 9
    cause: str = "2 of 7 members did not get all parts in 10 s"
    spans: list[Span] = field(default_factory=list)
    commits: list[RoundView] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = Random(5)
        self.peers = sorted(peer_name(number) for number in range(self.num_peers))
        self.front = self.peers[2 % self.num_peers]
        self.heir = self.peers[5 % self.num_peers]
        self.late = self.peers[-1]
        self._speed = {peer: self._chance.uniform(22, 30) for peer in self.peers}
        self._speed[self.peers[1]] = 17.5
        self._talent = {peer: self._chance.gauss(0, 0.025) for peer in self.peers}
        begin = BEGIN
        for round_id in range(1, self.rounds + 1):
            begin = self._add_round(round_id, begin)
        self.spans.sort(key=lambda span: (span.begin, span.peer_id))

    @property
    def end(self) -> float:
        """When its last round is committed, in seconds since 1970."""
        return self.commits[-1].committed_at or BEGIN

    def front_in(self, round_id: int) -> str:
        """Say who is at the front in a round."""
        return self.heir if self.lost_in and round_id > self.lost_in else self.front

    def members(self, round_id: int) -> list[str]:
        """Say who is in a round's average."""
        gone = {self.front} if self.lost_in and round_id >= self.lost_in else set()
        return [
            peer
            for peer in self.peers
            if peer not in gone and (peer != self.late or round_id >= self.late_in)
        ]

    def _add_round(self, round_id: int, begin: float) -> float:
        members = self.members(round_id)
        trained = {peer: begin + self._train_s(peer) for peer in members}
        # Nobody waits for the slow one for ever: it stops with what it has.
        plan = min(max(trained.values()), sorted(trained.values())[len(members) // 2] + 7) + 0.8
        steps = {peer: min(1.0, (plan - begin) / (trained[peer] - begin)) for peer in members}
        if round_id == self.lost_in:
            self._add(self.front, round_id, ("train", begin, begin + 17.0))
            plan += LEASE_S
        for peer in members:
            ready = min(trained[peer], plan)
            self._add(peer, round_id, ("train", begin, ready), ("wait", ready, plan))
        tries = 2 if round_id == self.voided_in else 1
        for _ in range(tries):
            end = plan
            for peer in members:
                middle = plan + self._chance.uniform(2.4, 3.8) + (6 if tries == 2 else 0)
                self._add(
                    peer,
                    round_id,
                    ("reduce", plan, middle),
                    ("attest", middle, plan + (4.9 if tries == 1 else 10.5)),
                )
                end = plan + (4.9 if tries == 1 else 10.5)
            plan, tries = end, 1
        for peer in members:
            self._add(peer, round_id, ("apply", plan, plan + 1.3))
        self.commits.append(self._commit(round_id, plan, steps))
        return plan + 1.3

    def _train_s(self, peer: str) -> float:
        return self.inner_steps * BATCH / (self._speed[peer] * self._chance.uniform(0.96, 1.04))

    def _add(self, peer: str, round_id: int, *stretches: tuple[Standing, float, float]) -> None:
        self.spans += [
            Span(peer_id=peer, round_id=round_id, standing=standing, begin=begin, end=end)
            for standing, begin, end in stretches
            if end > begin
        ]

    def _commit(self, round_id: int, at: float, steps: dict[str, float]) -> RoundView:
        level = 1.62 + 3.8 * math.exp(-round_id / 4.5) + 0.5 * math.exp(-round_id / 22)
        losses = {peer: level + self._talent[peer] + self._chance.gauss(0, 0.03) for peer in steps}
        samples = tuple(round(self.inner_steps * share) * BATCH for share in steps.values())
        void = VoidView(term=4, attempt=1, cause=self.cause, blamed=(self.peers[1],))
        return RoundView(
            round_id=round_id,
            committed_at=at,
            author=self.front_in(round_id),
            term=3 if self.front_in(round_id) == self.front else 4,
            attempt=2 if round_id == self.voided_in else 1,
            members=tuple(steps),
            samples=samples,
            receipts=len(steps),
            avg_loss=sum(losses.values()) / len(losses),
            val_loss=level - 0.05 + self._chance.gauss(0, 0.008),
            losses=losses,
            digest=digest("commit", round_id),
            prev_digest=digest("commit", round_id - 1),
            weights_digest=digest("weights", round_id),
            voids=(void,) if round_id == self.voided_in else (),
        )

    def picture(self, at: float, *, is_live: bool = True, spans_of: int = 5) -> Picture:
        """Say what there is to see at one moment.

        Args:
            at: Seconds since 1970.
            is_live: Whether it goes on.
            spans_of: Of how many rounds to keep the spans.

        Returns:
            The picture.
        """
        at = max(BEGIN + 0.5, min(at, self.end + 30))
        done = [commit for commit in self.commits if (commit.committed_at or 0) <= at]
        height = done[-1].round_id if done else 0
        working_on = min(height + 1, self.rounds)
        peers = tuple(self._peers_at(at, done, working_on))
        sent = sum(peer.bytes_out for peer in peers)
        return Picture(
            run_id="shakespeare-5d1c07aa",
            at=at,
            is_live=is_live,
            rounds_planned=self.rounds,
            inner_steps=self.inner_steps,
            tokens_per_sample=TOKENS,
            parameters=PARAMETERS,
            lease_s=LEASE_S,
            coordinator=self.front_in(working_on),
            term=4 if self.front_in(working_on) == self.heir else 3,
            coordinator_changes=int(self.front_in(working_on) == self.heir),
            peers=peers,
            rounds=(*done, *self._in_progress(at, height)),
            spans=tuple(self._spans_at(at, working_on - spans_of)),
            rounds_committed=height,
            attempts_voided=sum(len(commit.voids) for commit in done),
            last_commit_at=done[-1].committed_at if done else None,
            bytes_sent=sent,
            data_parallel_bytes=sum(
                len(commit.members) * self.inner_steps * 8 * PARAMETERS * 7 // 8 for commit in done
            ),
            quorum_needed=len(self.members(height or 1)) // 2 + 1,
            quorum_here=sum(peer.standing != "lost" for peer in peers),
        )

    def _in_progress(self, at: float, height: int) -> Iterator[RoundView]:
        if height < self.rounds:
            coming = self.commits[height]
            given_up = height + 1 == self.voided_in and at > (coming.committed_at or 0) - 10.5
            yield RoundView(round_id=height + 1, term=coming.term, voids=coming.voids if given_up else ())

    def _spans_at(self, at: float, after: int) -> Iterator[Span]:
        for span in self.spans:
            if span.round_id > after and span.begin < at:
                yield span.model_copy(update={"end": min(span.end, at)})
        gone = [span for span in self.spans if span.peer_id == self.front][-1].end
        if self.lost_in and gone + LEASE_S < at and after < self.rounds:
            yield Span(peer_id=self.front, round_id=self.lost_in, standing="lost", begin=gone, end=at)

    def _peers_at(self, at: float, done: list[RoundView], working_on: int) -> Iterator[PeerView]:
        for number, peer in enumerate(self.peers):
            own = [span for span in self.spans if span.peer_id == peer and span.begin <= at]
            if not own:
                continue
            now, rounds = own[-1], [commit for commit in done if peer in commit.members]
            silent = max(0.0, at - now.end)
            standing: Standing = now.standing
            if (silent > LEASE_S and at < self.end) or now.round_id < working_on - 1:
                standing = "lost"
            elif at >= self.end:
                standing = "finished"
            trains = standing == "train" or standing == "lost"
            share = min(1.0, (min(at, now.end) - now.begin) * self._speed[peer] / (self.inner_steps * BATCH))
            step = int(self.inner_steps * share) if trains else self.inner_steps
            sent = len(rounds) * 2 * PARAMETERS * 7 // 8
            yield PeerView(
                peer_id=peer,
                nickname=nickname(peer),
                standing=standing,
                is_coordinator=peer == self.front_in(working_on) and standing != "lost",
                round_id=now.round_id,
                inner_step=step,
                samples=step * BATCH,
                samples_per_s=self._speed[peer],
                tokens_per_s=self._speed[peer] * TOKENS,
                loss=rounds[-1].losses[peer] - 0.02 if rounds else None,
                val_loss=rounds[-1].val_loss if rounds else None,
                bytes_in=sent * 19 // 20,
                bytes_out=sent,
                credits=sum(
                    dict(zip(commit.members, commit.samples, strict=True))[peer] for commit in rounds
                ),
                seen_s=silent if standing == "lost" else 0.3 + number * 0.17,
                metrics_address=f"127.0.0.1:{9100 + number}",
                is_reachable=(True, True, True, True, True, None, False, True)[number % 8],
            )


class MadeUpSource:
    """Shows a made-up run as a `paceline.watch.source.Source` does.

    Attributes:
        at: The present moment of a live one; a test moves it and calls `tell`.
    """

    def __init__(self, made_up: MadeUpRun, at: float | None = None) -> None:
        self.made_up = made_up
        self.at = made_up.end if at is None else at
        self._is_live = at is not None
        self._version = 1
        self._changed = threading.Condition()

    @property
    def run(self) -> RunConfig:
        return virtual_run(self.made_up.num_peers, rounds=self.made_up.rounds)

    @property
    def is_live(self) -> bool:
        return self._is_live

    @property
    def begin(self) -> float:
        return BEGIN

    @property
    def end(self) -> float:
        return self.at

    def tell(self, at: float) -> None:
        """Let time pass."""
        with self._changed:
            self.at, self._version = at, self._version + 1
            self._changed.notify_all()

    def picture(self, at: float | None = None, rounds: int | None = 200) -> Picture:
        moment = self.at if at is None else min(max(at, BEGIN), self.at)
        picture = self.made_up.picture(moment, is_live=self._is_live)
        kept = picture.rounds if rounds is None else picture.rounds[-rounds:]
        return picture.model_copy(update={"rounds": kept})

    def changed(self, after: int, timeout_s: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._version > after, timeout_s)
            return self._version
