"""Bad days that once stopped a swarm, or split it: each is tried again here."""

from __future__ import annotations

from functools import partial

import pytest

from paceline.core.actions import Action, Publish, Repair, Tell
from paceline.core.chain import genesis
from paceline.core.election import ranking
from paceline.core.events import AttemptVoided, CoordinatorChanged, QuorumMissing, RoundStalled
from paceline.core.leadership import Leadership
from paceline.core.records import PeerRecord, Phase, RoundReceipt
from paceline.core.rounds import RoundMachine
from paceline.core.standing import Standing
from tests.protocol.virtual import VirtualPeer, VirtualSwarm, make_run, peer_ids


def begun(swarm: VirtualSwarm, rounds: int = 2) -> VirtualSwarm:
    assert swarm.run(lambda: swarm.height() >= rounds, 40.0 * rounds)
    return swarm


def swarm_of(count: int, seed: int = 3, rounds: int = 30, departure_s: float = 300.0) -> VirtualSwarm:
    return VirtualSwarm(seed, count, make_run(peer_ids(count), departure_s, rounds=rounds))


def coordinator_of(swarm: VirtualSwarm) -> str:
    return next(peer.peer_id for peer in swarm.live() if peer.machine.is_coordinator)


def member_of(swarm: VirtualSwarm) -> str:
    return next(peer.peer_id for peer in swarm.live() if not peer.machine.is_coordinator)


def gets_on(swarm: VirtualSwarm, rounds: int, limit_s: float) -> bool:
    goal = swarm.height() + rounds
    return swarm.run(lambda: swarm.height() >= goal, limit_s) and not swarm.violations


def changes(swarm: VirtualSwarm) -> int:
    return len(swarm.told(CoordinatorChanged))


def heartbeat(author: str, seq: int, **content: object) -> PeerRecord:
    plain = {"run_id": "", "peer_id": author, "seq": seq, "expires_at": 1e9, "round_id": 1}
    plain |= {"head_digest": "", "phase": Phase.TRAIN, "inner_step": 0, "samples": 0, "samples_per_s": 0.0}
    return PeerRecord.model_validate({**plain, "loss": 0.0, "term": 0, "coordinator": "", **content})


@pytest.mark.parametrize("seed", range(3))
def test_a_coordinator_that_is_heard_but_deaf_is_replaced(seed: int) -> None:
    swarm = begun(swarm_of(4, seed))
    deaf = coordinator_of(swarm)
    swarm.deaf.add(deaf)
    assert gets_on(swarm, 4, 150)
    assert {peer.machine.standing.coordinator for peer in swarm.live() if peer.peer_id != deaf} != {deaf}


@pytest.mark.parametrize("seed", range(3))
def test_a_deaf_member_unsettles_nobody(seed: int) -> None:
    swarm = begun(swarm_of(4, seed))
    swarm.deaf.add(member_of(swarm))
    before = changes(swarm)
    assert gets_on(swarm, 6, 200)
    assert changes(swarm) == before


@pytest.mark.parametrize("ahead_s", [35.0, 80.0, 120.0])
def test_a_member_whose_clock_is_fast_holds_nobody_up(ahead_s: float) -> None:
    swarm = begun(swarm_of(4))
    swarm.ahead_s[member_of(swarm)] = ahead_s
    assert gets_on(swarm, 8, 200)


def test_a_coordinator_that_went_on_to_a_later_term_is_replaced() -> None:
    # It is no elector, so the electors' term is not its to choose: in the later one it waits for them.
    *members, newcomer = peer_ids(4)
    run = make_run(members)
    standing = Standing(run, members[0], genesis(run, "00" * 32, "11" * 32), 0.0, 1, newcomer)
    leadership = Leadership(standing, 0.0)
    said = partial(heartbeat, run_id=run.run_id, head_digest=standing.head.digest())

    def choose(now: int, newcomers_term: int) -> bool:
        for member in members:
            standing.notice(said(member, now, term=1, coordinator=newcomer), b"", float(now))
        follows = newcomer if newcomers_term == 1 else ""
        standing.notice(said(newcomer, now, term=newcomers_term, coordinator=follows, acts=True), b"", now)
        return leadership.choose(float(now), may_lead=True)

    assert not any(choose(now, 1) for now in range(1, 60))
    moved_at = next(now for now in range(60, 120) if choose(now, 2))
    assert moved_at <= 60 + run.pace.lease_s
    assert standing.term == 2 and standing.coordinator in members


@pytest.mark.parametrize("seed", range(3))
def test_two_survivors_that_had_voted_finish_the_round_of_the_departed(seed: int) -> None:
    swarm = swarm_of(5, seed, departure_s=30.0)
    voters: set[str] = set()

    def kill_the_others(peer: VirtualPeer, action: Action) -> None:
        receipt = action.record if isinstance(action, Publish) else None
        voted = isinstance(receipt, RoundReceipt) and receipt.complete and receipt.round_id == 3
        if voted and len(voters) < 2:
            voters.add(peer.peer_id)
            if len(voters) == 2:
                for other in set(peer_ids(5)) - voters:
                    swarm.stop(other)

    swarm.on_action = kill_the_others
    assert swarm.run(lambda: len(voters) == 2, 200)
    assert gets_on(swarm, 3, 400)
    third = next(iter(swarm.live())).disk.chain[3]
    assert set(third.participating_nodes) > voters  # the work of the departed is kept


def test_a_peer_that_applies_slowly_needs_no_repair_and_misses_no_receipt() -> None:
    swarm = swarm_of(5, seed=2, rounds=12)
    slow, repairs = peer_ids(5)[1], []
    swarm.apply_s[slow] = 4.0  # half of what it has: with much more it now and then repairs itself

    def note(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Repair):
            repairs.append(peer.peer_id)

    swarm.on_action = note
    assert swarm.run(lambda: all(peer.finished for peer in swarm.live()), 400)
    assert not repairs and not swarm.told(AttemptVoided) and not swarm.violations


def test_newcomers_join_after_all_founders_have_left_one_by_one() -> None:
    founders = peer_ids(9)[:7]
    swarm = VirtualSwarm(1, 9, make_run(founders, 30.0, rounds=400))
    last = next(peer_id for peer_id in peer_ids(10) if peer_id not in swarm.peers)
    begun(swarm)
    for peer_id in founders:
        swarm.stop(peer_id)
        assert gets_on(swarm, 3, 400)
    swarm.run(lambda: False, 60)
    joiner = swarm.start(last)
    assert swarm.run(lambda: last in swarm.live()[0].disk.chain[-1].participating_nodes, 300)
    assert joiner.machine.standing.round_id > 5 and not swarm.violations


@pytest.mark.parametrize("liars", [1, 3])
def test_liars_that_claim_to_be_far_ahead_hold_nobody_up(liars: int) -> None:
    swarm = begun(swarm_of(4))
    names, said = sorted(set(peer_ids(8)) - set(peer_ids(4)))[:liars], [10**6]

    def lie() -> None:
        said[0] += 1
        for peer in swarm.live():
            for name in names:
                claim = heartbeat(name, said[0], run_id=swarm.run_config.run_id, round_id=10**6)
                peer.machine.notice(claim, b"", swarm.now)
        swarm.after(1, lie)

    lie()
    assert gets_on(swarm, 4, 80)


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_stood_still_goes_on_with_the_others_and_splits_nothing(seed: int) -> None:
    swarm = begun(swarm_of(4, seed, rounds=60, departure_s=60.0))
    ids = peer_ids(4)
    first = ranking(swarm.run_config.run_id, -1, ids)[0]  # of two halves, the one with this peer goes on
    host = [swarm.peers[peer_id] for peer_id in ids if peer_id != first][:2]
    swarm.asleep = {peer.peer_id for peer in host}
    for peer in host:
        peer.group = 1
    before = swarm.height()
    swarm.run(lambda: False, 150)
    assert swarm.height() >= before + 5

    def reconnect() -> None:
        for peer in host:
            peer.group = 0

    swarm.asleep = set()
    swarm.after(8, reconnect)  # at first they see only each other
    assert swarm.run(lambda: all(peer.machine.standing.round_id >= swarm.height() for peer in host), 100)
    assert gets_on(swarm, 2, 60)


def test_a_process_that_stood_still_takes_nobody_for_dead() -> None:
    swarm = begun(swarm_of(4))
    woken = swarm.peers[member_of(swarm)].machine
    everybody, coordinator = set(peer_ids(4)), woken.standing.coordinator
    later = swarm.now + 3 * swarm.run_config.quorum.departure_s
    facts = [action.event for action in woken.advance(later) if isinstance(action, Tell)]
    assert not [fact for fact in facts if isinstance(fact, CoordinatorChanged | QuorumMissing)]
    assert set(woken.standing.live(later)) == everybody and not woken.standing.departed(later)
    assert woken.standing.coordinator == coordinator
    # But a peer that keeps silent from then on is missed as ever.
    for now in range(1, 12):
        woken.advance(later + now)
    assert set(woken.standing.live(later + 11)) == {woken.standing.me}


def test_peers_that_were_never_seen_are_not_gone_because_this_process_stood_still() -> None:
    run = make_run(peer_ids(3))
    machine = RoundMachine(run, peer_ids(3)[0], genesis(run, "00" * 32, "11" * 32), 0.0)
    machine.advance(1.0)
    machine.advance(1000.0)
    assert not machine.standing.departed(1000.0)


def test_a_round_that_does_not_end_is_told_although_enough_peers_are_here() -> None:
    swarm = begun(swarm_of(4))
    for peer in swarm.live()[:3]:
        peer.speed = 1e9  # the heart beats, the training hangs
    swarm.run(lambda: False, 300)
    stalled = [event for event in swarm.told(RoundStalled) if isinstance(event, RoundStalled)]
    patience = swarm.run_config.pace.start_s + swarm.run_config.pace.reduce_s
    assert stalled and not swarm.told(QuorumMissing)
    assert all(event.seconds >= patience for event in stalled)
    assert len(stalled) <= 300 / 30
