"""Claims about steps that a peer has taken for a round before it began."""

from __future__ import annotations

import pytest

from paceline.core.actions import Publish
from paceline.core.arrivals import Arrivals
from paceline.core.chain import genesis
from paceline.core.overlap import OverlapConfig
from paceline.core.records import PeerRecord, Phase
from paceline.core.rounds import RoundMachine
from paceline.core.standing import Standing
from paceline.core.voice import Progress
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

PEERS = peer_ids(2)
ME, OTHER = PEERS
RUN = make_run(PEERS, inner_steps=20, rounds=6, overlap=OverlapConfig(fragments=2, delay_steps=3))
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
FIRST = GENESIS.model_copy(update={"round_id": 1})


def after_a_commit(steps: int) -> RoundMachine:
    machine = RoundMachine(RUN, ME, GENESIS, 0.0)
    machine.trained(Progress(20, 160, 16.0, 2.0), 9.0)
    machine.applied(FIRST, 10.0, Progress(steps, 8 * steps, 16.0, 2.0))
    return machine


@pytest.mark.parametrize(("steps", "phase"), [(0, Phase.TRAIN), (4, Phase.TRAIN), (10, Phase.WAIT)])
def test_steps_taken_ahead_count_from_the_first_moment_of_their_round(steps: int, phase: Phase) -> None:
    machine = after_a_commit(steps)
    said = [action.record for action in machine.advance(10.1) if isinstance(action, Publish)]
    (record,) = [record for record in said if isinstance(record, PeerRecord)]
    assert (record.round_id, record.inner_step, record.samples) == (2, steps, 8 * steps)
    assert machine.phase is phase


def test_training_ends_with_the_steps_of_its_round() -> None:
    machine = after_a_commit(9)
    assert RUN.timetable.steps_of(1) == 20 and RUN.timetable.steps_of(2) == 10
    machine.trained(Progress(10, 80, 16.0, 2.0), 11.0)
    assert machine.phase is Phase.WAIT


def test_a_peer_that_came_with_steps_and_stopped_early_is_judged_by_its_speed() -> None:
    # It did 5 steps ahead and one more within two seconds of the round: at that rate it would have done all
    # ten in 3.3 s, but it says that a step takes it two seconds.
    standing = Standing(RUN, ME, FIRST, 0.0, term=1, coordinator=ME)
    arrivals = Arrivals()
    arrivals.begin_round(10.0)
    record = heartbeat(RUN, FIRST, OTHER, term=1, coordinator=ME, phase=Phase.WAIT)
    stopped = {"inner_step": 6, "samples": 48, "samples_per_s": 4.0}
    standing.notice(record.model_copy(update=stopped), b"", 12.0)
    arrivals.watch(standing, 12.0)
    assert arrivals._after_s[OTHER] == pytest.approx(2.0 + 4 * 2.0)
