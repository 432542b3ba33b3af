"""Claims about slow peers: what they did counts, and nobody waits for the rest."""

from __future__ import annotations

import pytest

from paceline.core.actions import Action, Apply, Publish, Tell
from paceline.core.chain import genesis
from paceline.core.config import PaceConfig
from paceline.core.coordination import Coordination
from paceline.core.events import AttemptVoided
from paceline.core.records import CommitRecord, Phase, RoundPlan, RoundReceipt, Vote
from paceline.core.standing import Standing
from tests.protocol.said import heartbeat
from tests.protocol.virtual import VirtualPeer, VirtualSwarm, make_run, peer_ids

PEERS = peer_ids(5)
ME, LATE = PEERS[0], PEERS[4]


def parts_of(speeds: list[float]) -> dict[str, list[tuple[int, int]]]:
    """Twenty runs: what each peer got credit for in each round, and what it had trained by then."""
    parts: dict[str, list[tuple[int, int]]] = {peer: [] for peer in peer_ids(len(speeds))}

    def note(peer: VirtualPeer, action: Action) -> None:
        if isinstance(action, Apply):
            state, me = action.commit.state, peer.peer_id
            credited = dict(zip(state.participating_nodes, state.samples, strict=True)).get(me, 0)
            parts[me].append((credited, peer.machine.progress.samples))

    for seed in range(20):
        swarm = VirtualSwarm(seed, len(speeds))
        for peer, speed in zip(swarm.peers.values(), speeds, strict=True):
            peer.speed = speed  # seconds per step over the usual ones
        swarm.on_action = note
        assert swarm.run(lambda: all(peer.finished for peer in swarm.live()), 400)  # noqa: B023
    return parts


def mean_steps(parts: list[tuple[int, int]]) -> float:
    return sum(trained for _, trained in parts) / len(parts) / 8


def test_a_slow_peers_credit_is_what_it_did() -> None:
    # Its last step before the plan may still be on its way: a step in twenty, where it was one in four.
    slow = parts_of([1, 1, 1, 4.3])[peer_ids(4)[3]]
    assert len(slow) == 120 and all(credited > 0 for credited, _ in slow)
    assert sum(credited for credited, _ in slow) >= 0.95 * sum(trained for _, trained in slow)


def test_a_slow_peer_trains_until_the_others_are_done() -> None:
    slow = parts_of([1, 1, 1, 4.3])[peer_ids(4)[3]]
    assert mean_steps(slow) > 2.4  # 10 / 4.3 = 2.3 steps, and what it does until the plan


@pytest.mark.parametrize(
    ("speeds", "num_pacesetters"),
    [
        ([1, 1, 1, 1], 4),
        ([1, 1, 1, 4.3], 3),
        ([1, 1, 4.3, 4.3], 2),
        ([1, 2, 10], 2),
        ([1, 4.3], 1),
        ([1, 10], 1),
    ],
    ids=str,
)
def test_those_who_set_the_pace_train_all_of_their_steps_beside_slow_peers(
    speeds: list[float], num_pacesetters: int
) -> None:
    parts = parts_of(speeds)
    for peer in peer_ids(len(speeds))[:num_pacesetters]:
        assert parts[peer] == [(80, 80)] * 120


class Front:
    """A coordinator that has named all five, and may be told of receipts."""

    def __init__(self, grace_s: float) -> None:
        run = make_run(PEERS, pace=PaceConfig(grace_s=grace_s))
        self.standing = Standing(run, ME, genesis(run, "00" * 32, "11" * 32), 0.0, term=1, coordinator=ME)
        self.hear(0.0)
        self.coordination = Coordination()
        self.coordination.begin_round(0.0)
        self.coordination.arrivals.watch(self.standing, 0.5)
        plans = [a.record for a in self.coordination.act(self.standing, 0.5) if isinstance(a, Publish)]
        (plan,) = (plan for plan in plans if isinstance(plan, RoundPlan))
        self.plan = plan

    def hear(self, now: float, **late: int) -> None:
        """Everybody's heart beats; the late one says this of itself."""
        for peer in PEERS:
            record = heartbeat(self.standing.run, self.standing.head, peer, term=1, coordinator=ME)
            said = {"seq": int(now * 10) + 1, **(late if peer == LATE else {})}
            self.standing.notice(record.model_copy(update=said), b"", now)

    def votes(self, *peers: str, complete: bool = True) -> None:
        plan, result = self.plan, "ab" * 32 if complete else ""
        for peer in peers:
            receipt = RoundReceipt(
                run_id=plan.run_id,
                peer_id=peer,
                seq=1,
                expires_at=1e9,
                round_id=1,
                term=1,
                attempt=plan.attempt,
                coordinator=ME,
                plan_digest=plan.digest(),
                complete=complete,
                weights_digest=result,
                momentum_digest=result,
            )
            self.standing.notice(receipt, b"", 0.0)

    def acts(self, now: float) -> list[Action]:
        return self.coordination.act(self.standing, now)

    def commits(self, now: float) -> bool:
        return any(isinstance(a, Publish) and isinstance(a.record, CommitRecord) for a in self.acts(now))


def test_how_long_late_receipts_are_waited_for_follows_from_those_that_have_come() -> None:
    front = Front(grace_s=60)
    assert set(front.plan.roster) == set(PEERS)
    front.votes(*PEERS[:4])
    front.hear(2.0)
    assert not front.commits(2.0)  # they came 1.5 s after the plan; the fifth may be a second later
    assert not front.commits(2.9)
    assert front.commits(3.1)


def test_a_quorum_of_receipts_is_not_waited_beyond_longer_than_the_run_allows() -> None:
    front = Front(grace_s=0.5)
    front.votes(*PEERS[:3])
    assert not front.commits(2.0)
    assert front.commits(2.5)


def test_nobody_waits_for_a_member_that_has_started_anew() -> None:
    front = Front(grace_s=60)
    front.votes(*PEERS[:4], complete=False)
    front.hear(2.0)
    assert not front.acts(2.0)  # it may still have got the whole average
    front.hear(3.0, samples=8, inner_step=1)
    told = [action.event for action in front.acts(3.0) if isinstance(action, Tell)]
    assert [type(event) for event in told] == [AttemptVoided]
    assert LATE in front.coordination.excluded


def test_patience_with_receipts_of_one_attempt_says_nothing_of_the_next() -> None:
    front = Front(grace_s=60)
    front.votes(*PEERS, complete=False)
    front.hear(2.0)
    assert front.acts(2.0)  # void
    front.hear(8.0)
    (plan,) = (a.record for a in front.acts(8.0) if isinstance(a, Publish))
    assert isinstance(plan, RoundPlan)
    front.plan = plan
    front.hear(14.0)
    front.votes(*plan.roster[:4])
    assert not front.commits(14.0)  # they came after 6 s this time; 20 % of that is the patience now
    assert not front.commits(15.1)
    assert front.commits(15.3)


def test_a_member_that_started_anew_is_waited_for_when_a_result_is_adopted() -> None:
    # It need not have trained: it fetches the result.
    front = Front(grace_s=60)
    origin = front.plan
    vote = Vote(
        round_id=1,
        term=1,
        attempt=origin.attempt,
        plan_digest=origin.digest(),
        weights_digest="ab" * 32,
        momentum_digest="ab" * 32,
    )
    adopting = {"attempt": origin.attempt + 1, "adopts": vote, "origin": origin.ballot}
    front.coordination.plan = front.plan = origin.model_copy(update=adopting)
    front.votes(*PEERS[:4])
    front.hear(2.0, samples=0, inner_step=0)
    assert not front.commits(2.0)
    front.votes(LATE)
    assert front.commits(2.1)


def test_a_slow_peer_is_in_a_hurry_once_it_knows_that_it_lags() -> None:
    swarm = VirtualSwarm(0, 4, make_run(peer_ids(4), inner_steps=40))
    *_, slow = swarm.peers.values()
    slow.speed = 4.3
    hurried: list[bool] = []
    assert swarm.run(lambda: swarm.height() == 2, 120) and not slow.machine.is_coordinator

    def is_committed() -> bool:
        machine = slow.machine
        if machine.standing.round_id == 3 and machine.phase is Phase.TRAIN:
            hurried.append(not machine.is_unhurried)
        return swarm.height() == 3

    assert swarm.run(is_committed, 60)
    assert not hurried[0] and any(hurried)


@pytest.mark.parametrize("speeds", [[1, 1, 4.3], [1, 1, 20], [1, 1, 1, 20, 20]], ids=str)
def test_a_peer_that_hangs_costs_a_round_its_lease_and_not_the_time_of_the_slowest(
    speeds: list[float],
) -> None:
    swarm = VirtualSwarm(0, len(speeds), make_run(peer_ids(len(speeds)), rounds=60))
    hung, *_ = swarm.peers.values()
    for peer, speed in zip(swarm.peers.values(), speeds, strict=True):
        peer.speed = speed
    assert swarm.run(lambda: swarm.height() == 2, 120)
    trained = hung.machine.trained
    hung.machine.trained = lambda progress, now: (  # type: ignore[method-assign]
        trained(progress, now) if progress.inner_step < 10 else None
    )
    began = swarm.now
    assert swarm.run(lambda: swarm.height() == 5, 400)
    pace = swarm.run_config.pace
    assert swarm.now - began < 3 * (10 * 0.5 + pace.lease_s + pace.start_s)
