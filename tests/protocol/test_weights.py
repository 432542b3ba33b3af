"""Claims about what a member contributes: what it has trained in this life, and nothing else."""

from __future__ import annotations

from paceline.core.actions import Action, Reduce
from paceline.core.chain import genesis
from paceline.core.records import Phase, RoundPlan
from paceline.core.rounds import RoundMachine
from paceline.core.voice import Progress
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

PEERS = peer_ids(3)
RUN = make_run(PEERS)
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
PLAN = RoundPlan(
    run_id=RUN.run_id,
    peer_id=PEERS[1],
    seq=1,
    expires_at=1e9,
    round_id=1,
    term=1,
    attempt=0,
    prev_digest=GENESIS.digest(),
    roster=tuple(PEERS),
    samples=(40, 80, 80),
    avg_loss=2.0,
)


def member(progress: Progress) -> RoundMachine:
    """Make a member that follows the plan's coordinator, like everybody else, and has trained so far."""
    machine = RoundMachine(RUN, PEERS[0], GENESIS, 0.0)
    machine.trained(progress, 0.0)
    for number in (1, 2):
        record = heartbeat(RUN, GENESIS, PEERS[number], term=1, coordinator=PEERS[1])
        machine.notice(record, b"", 1.0)
    return machine


def after_the_plan(machine: RoundMachine) -> list[Action]:
    machine.notice(PLAN, b"", 1.0)
    return [action for action in machine.advance(1.0) if isinstance(action, Reduce)]


def test_a_restarted_member_follows_no_plan_that_counts_on_what_it_trained_before() -> None:
    assert not after_the_plan(member(Progress(inner_step=0, samples=0)))
    assert not after_the_plan(member(Progress(inner_step=4, samples=32)))
    assert after_the_plan(member(Progress(inner_step=5, samples=40)))
    assert after_the_plan(member(Progress(inner_step=6, samples=48)))


def test_a_straggler_whose_attempt_failed_waits_for_the_next_with_what_it_has() -> None:
    machine = member(Progress(inner_step=6, samples=48))
    assert after_the_plan(machine)
    machine.reduced(PLAN, None)
    assert machine.phase is Phase.WAIT
    again = PLAN.model_copy(update={"seq": 2, "attempt": 1, "samples": (48, 80, 80)})
    machine.notice(again, b"", 2.0)
    assert [action for action in machine.advance(2.0) if isinstance(action, Reduce)]


def test_whoever_has_trained_nothing_trains_after_an_attempt_that_failed() -> None:
    machine = member(Progress(inner_step=0, samples=0))
    machine.notice(PLAN.model_copy(update={"samples": (0, 80, 80)}), b"", 1.0)
    assert [action for action in machine.advance(1.0) if isinstance(action, Reduce)]
    machine.reduced(PLAN, None)
    assert machine.phase is Phase.TRAIN
