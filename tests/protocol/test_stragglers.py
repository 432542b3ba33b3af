"""Claims about slow peers: what they did counts, and nobody waits for the rest."""

from __future__ import annotations

from paceline.core.actions import Action, Apply, Publish, Tell
from paceline.core.chain import genesis
from paceline.core.config import PaceConfig
from paceline.core.coordination import Coordination
from paceline.core.events import AttemptVoided
from paceline.core.records import CommitRecord, RoundPlan, RoundReceipt
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


def test_a_slow_peers_credit_is_what_it_did() -> None:
    # Its last step before the plan may still be on its way: a step in twenty, where it was one in four.
    slow = parts_of([1, 1, 1, 4.3])[peer_ids(4)[3]]
    assert len(slow) == 120 and all(credited > 0 for credited, _ in slow)
    assert sum(credited for credited, _ in slow) >= 0.95 * sum(trained for _, trained in slow)


def test_peers_that_keep_up_train_all_of_their_steps() -> None:
    for parts in parts_of([1, 1, 1, 1]).values():
        assert parts == [(80, 80)] * 120


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
