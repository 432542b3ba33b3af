"""Claims about the round protocol, tried on real round machines in virtual time."""

from __future__ import annotations

import random
from functools import partial

import pytest

from paceline.core.actions import Action, Apply, Promise, Publish, Reduce
from paceline.core.events import AttemptVoided, DriftDetected, QuorumMissing, RoundPlanned
from paceline.core.records import CommitRecord, PeerRecord, RoundPlan, RoundReceipt
from tests.protocol.virtual import Disk, VirtualPeer, VirtualSwarm, make_run, peer_ids

ROUNDS = 6


def finished(swarm: VirtualSwarm) -> bool:
    return all(peer.finished for peer in swarm.live())


def one_chain(swarm: VirtualSwarm) -> bool:
    tips = {peer.disk.chain[-1].digest() for peer in swarm.live()}
    return len(tips) == 1 and not swarm.violations


def at_the_end(swarm: VirtualSwarm) -> bool:
    return swarm.height() == ROUNDS


def plans(swarm: VirtualSwarm) -> list[RoundPlanned]:
    return [event for event in swarm.told(RoundPlanned) if isinstance(event, RoundPlanned)]


def test_healthy_peers_commit_every_round_at_the_first_attempt() -> None:
    swarm = VirtualSwarm(seed=1, count=4)
    assert swarm.run(lambda: finished(swarm), 300)
    assert one_chain(swarm) and swarm.height() == ROUNDS
    assert not swarm.told(AttemptVoided) and len(plans(swarm)) == ROUNDS
    assert all(sum(state.samples) == 4 * 80 for state in swarm.live()[0].disk.chain[1:])


@pytest.mark.parametrize("moment", [PeerRecord, RoundPlan, RoundReceipt, CommitRecord])
@pytest.mark.parametrize("seed", range(5))
def test_a_coordinator_killed_at_any_transition_costs_no_round(moment: type, seed: int) -> None:
    swarm = VirtualSwarm(seed=seed, count=5)
    killed: list[float] = []

    def kill_coordinator(peer: VirtualPeer, action: Action) -> None:
        speaks = isinstance(action, Publish) and isinstance(action.record, moment)
        if speaks and peer.machine.is_coordinator and swarm.height() >= 2 and not killed:
            killed.append(swarm.now)
            swarm.crash(peer.peer_id)

    swarm.on_action = kill_coordinator
    assert swarm.run(lambda: bool(killed) and swarm.height() >= 4, 300)
    assert swarm.run(lambda: finished(swarm), 300)
    assert one_chain(swarm) and swarm.height() == ROUNDS and len(swarm.live()) == 4


@pytest.mark.parametrize("seed", range(5))
def test_a_peer_killed_during_reduce_never_forks_the_anchor(seed: int) -> None:
    swarm = VirtualSwarm(seed=seed, count=4)
    killed: list[str] = []

    def kill_member(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Reduce) and not peer.machine.is_coordinator and not killed:
            killed.append(peer.peer_id)
            swarm.after(0.1, partial(swarm.stop, peer.peer_id))

    swarm.on_action = kill_member
    assert swarm.run(lambda: bool(killed) and finished(swarm), 400)
    assert one_chain(swarm) and swarm.height() == ROUNDS


def test_a_straggler_contributes_the_steps_it_has_and_holds_nobody_up() -> None:
    slow = VirtualSwarm(seed=3, count=5)
    slow.peers[peer_ids(5)[0]].speed = 4.0
    even = VirtualSwarm(seed=3, count=5)
    for swarm in (slow, even):
        assert swarm.run(partial(at_the_end, swarm), 600)
    assert slow.now < 1.3 * even.now
    shares = [dict(zip(s.participating_nodes, s.samples, strict=True)) for s in slow.live()[0].disk.chain[1:]]
    assert all(0 < share[peer_ids(5)[0]] < 40 for share in shares)


def test_a_minority_never_commits_and_comes_back_when_the_partition_heals() -> None:
    swarm = VirtualSwarm(seed=4, count=5, run=make_run(peer_ids(5), rounds=12))
    assert swarm.run(lambda: swarm.height() >= 2, 100)
    apart = [swarm.peers[peer_id] for peer_id in peer_ids(5)[:2]]
    for peer in apart:
        peer.group = 1
    before = swarm.height()
    assert swarm.run(lambda: swarm.height() >= before + 4, 200)
    assert all(peer.disk.chain[-1].round_id <= before + 1 for peer in apart)
    for peer in apart:
        peer.group = 0
    assert swarm.run(lambda: finished(swarm), 300)
    assert one_chain(swarm)


def test_half_of_the_swarm_without_the_tie_breaker_waits_and_says_so() -> None:
    swarm = VirtualSwarm(seed=5, count=4)
    assert swarm.run(lambda: swarm.height() >= 2, 100)
    halves = [[p for p in peer_ids(4) if p in pair] for pair in (peer_ids(4)[:2], peer_ids(4)[2:])]
    for group, half in enumerate(halves):
        for peer_id in half:
            swarm.peers[peer_id].group = group
    before = swarm.height()
    swarm.run(lambda: False, 60)
    heights = {max(swarm.peers[p].disk.chain[-1].round_id for p in half) for half in halves}
    assert len(heights) == 2 and min(heights) <= before + 1  # one half went on, the other did not
    assert swarm.told(QuorumMissing) and not swarm.violations


def test_members_gone_for_good_stop_counting_after_the_departure_time() -> None:
    swarm = VirtualSwarm(seed=6, count=5, run=make_run(peer_ids(5), quorum_departure_s=60.0))
    departed: set[str] = set()

    def note(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Apply):
            departed.update(action.commit.departed)

    swarm.on_action = note
    assert swarm.run(lambda: swarm.height() >= 2, 100)
    for peer_id in peer_ids(5)[:3]:
        swarm.crash(peer_id)
    before = swarm.height()
    swarm.run(lambda: False, 40)
    assert swarm.height() <= before + 1
    assert swarm.run(lambda: finished(swarm), 300)
    assert one_chain(swarm) and swarm.height() == ROUNDS
    assert departed and departed <= set(peer_ids(5)[:3])


def test_a_restarted_voter_hands_on_the_plan_that_a_new_coordinator_must_finish() -> None:
    # All votes are out, then everybody loses power before the commit is seen: only disks remember.
    swarm = VirtualSwarm(seed=7, count=3)
    voted: set[str] = set()

    def note_votes(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Promise) and action.vote and action.vote.round_id == 3:
            voted.add(peer.peer_id)
        if isinstance(action, Publish) and isinstance(action.record, CommitRecord) and len(voted) == 3:
            peer.alive = False

    swarm.on_action = note_votes
    assert swarm.run(lambda: len(voted) == 3 and len(swarm.live()) == 2, 200)
    staged = {peer.disk.voted_for for peer in swarm.peers.values()}
    assert len(staged) == 1
    swarm.on_action = lambda peer, action: None
    for peer_id in peer_ids(3):
        swarm.start(peer_id, swarm.crash(peer_id))
    assert swarm.run(lambda: finished(swarm), 400)
    assert one_chain(swarm)
    result = next(iter(staged))
    assert result is not None
    assert swarm.live()[0].disk.chain[3].weights_digest == result.weights_digest


def test_a_vote_is_promised_durably_before_it_is_published() -> None:
    swarm = VirtualSwarm(seed=8, count=4)
    receipts = 0

    def check(peer: VirtualPeer, action: Action) -> None:
        nonlocal receipts
        if isinstance(action, Publish) and isinstance(action.record, RoundReceipt) and action.record.complete:
            receipts += 1
            assert peer.disk.promised.vote == action.record.vote()

    swarm.on_action = check
    assert swarm.run(lambda: finished(swarm), 300)
    assert receipts == 4 * ROUNDS


def test_whoever_votes_holds_the_result_on_its_disk() -> None:
    swarm = VirtualSwarm(seed=8, count=5)
    crashed: list[str] = []

    def check(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Publish) and isinstance(action.record, CommitRecord) and len(crashed) < 2:
            crashed.append(peer.peer_id)  # others must finish what it was about to commit
            swarm.stop(peer.peer_id)
        if isinstance(action, Publish) and isinstance(action.record, RoundReceipt) and action.record.complete:
            held = peer.disk.results.get(action.record.plan_digest)
            assert held is not None
            assert (held.plan_digest, held.weights_digest) == (
                action.record.plan_digest,
                action.record.weights_digest,
            )

    swarm.on_action = check
    assert swarm.run(lambda: finished(swarm), 400)
    assert len(crashed) == 2 and one_chain(swarm)


def test_a_commit_is_applied_only_when_a_quorum_of_equal_receipts_backs_it() -> None:
    swarm = VirtualSwarm(seed=9, count=5, loss=0.3)
    applied = 0

    def check(peer: VirtualPeer, action: Action) -> None:
        nonlocal applied
        if isinstance(action, Apply):
            applied += 1
            assert len(action.link.receipts) >= 3

    swarm.on_action = check
    assert swarm.run(lambda: finished(swarm), 400)
    assert applied >= 4 * ROUNDS and one_chain(swarm)


class BadDay:
    """Two virtual minutes of crashes, restarts and partitions, then peace."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = self.rng.randint(3, 6)
        self.swarm = VirtualSwarm(seed, self.count, loss=self.rng.choice((0.0, 0.3)))
        self.disks: dict[str, Disk] = {}
        self.swarm.after(self.rng.uniform(1, 12), self.break_something)

    def break_something(self) -> None:
        if self.swarm.now >= 120:
            self.make_peace()
            return
        what, live = self.rng.random(), [peer.peer_id for peer in self.swarm.live()]
        if what < 0.4 and len(live) > self.count // 2 + 1:
            victim = self.rng.choice(live)
            self.disks[victim] = self.swarm.crash(victim)
        elif what < 0.75 and self.disks:
            self.restart(next(iter(self.disks)))
        else:
            self.divide(into=2 if what < 0.9 else 1)
        self.swarm.after(self.rng.uniform(1, 12), self.break_something)

    def make_peace(self) -> None:
        self.divide(into=1)
        for peer_id in list(self.disks):
            self.restart(peer_id)

    def divide(self, into: int) -> None:
        for peer in self.swarm.peers.values():
            peer.group = self.rng.randrange(into)

    def restart(self, peer_id: str) -> None:
        self.swarm.start(peer_id, self.disks.pop(peer_id))


@pytest.mark.parametrize("seed", range(60))
def test_a_round_never_has_two_different_commits(seed: int) -> None:
    swarm = BadDay(seed).swarm
    swarm.run(lambda: False, 135)
    quiet_at = swarm.height()
    # Once nothing breaks any more, the swarm gets on within a bounded time.
    assert swarm.run(lambda: swarm.height() >= min(ROUNDS, quiet_at + 1), 90)
    assert swarm.run(lambda: any(peer.finished for peer in swarm.peers.values()), 300)
    assert not swarm.violations


@pytest.mark.parametrize("seed", range(3))
def test_a_peer_that_drifts_knows_it_within_the_round_and_repairs_itself(seed: int) -> None:
    swarm = VirtualSwarm(seed=seed, count=4)
    drifting = peer_ids(4)[seed]
    swarm.drifts.add(drifting)
    assert swarm.run(lambda: len(swarm.told(DriftDetected)) >= 1, 100)
    swarm.drifts.clear()
    assert swarm.run(lambda: finished(swarm), 300)
    assert one_chain(swarm) and swarm.height() == ROUNDS
    assert {peer_id for _, peer_id, event in swarm.events if isinstance(event, DriftDetected)} == {drifting}
