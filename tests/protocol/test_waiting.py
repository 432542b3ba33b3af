"""Claims about whom a coordinator waits for before it plans."""

from __future__ import annotations

from paceline.core.actions import Publish
from paceline.core.chain import genesis
from paceline.core.coordination import Coordination
from paceline.core.records import Phase, RoundPlan
from paceline.core.standing import Standing
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

*ELECTORS, STRANGER = peer_ids(4)
RUN = make_run(ELECTORS)
GENESIS = genesis(RUN, "00" * 32, "11" * 32)
ME = ELECTORS[0]


def test_nobody_waits_for_a_stranger_in_a_later_term_when_all_electors_have_failed() -> None:
    # All electors blamed one another. The stranger trains on, but it can't follow before this term ends.
    standing = Standing(run=RUN, me=ME, head=GENESIS, started_at=0.0, term=2, coordinator=ME)
    for elector in ELECTORS:
        standing.notice(heartbeat(RUN, GENESIS, elector, term=2, coordinator=ME), b"", 0.0)
    training = heartbeat(RUN, GENESIS, STRANGER, term=3, coordinator=STRANGER, phase=Phase.TRAIN)
    standing.notice(training, b"", 0.0)
    coordination = Coordination()
    coordination.begin_round(0.0)
    coordination.arrivals.watch(standing, 0.5)
    coordination.excluded = set(ELECTORS)

    assert not coordination.act(standing, 0.5)  # there is nobody to plan with: everybody gets another chance
    soon = 0.5 + RUN.pace.stall_s
    assert soon < RUN.pace.lease_s  # all are still heard
    plans = [a.record for a in coordination.act(standing, soon) if isinstance(a, Publish)]
    assert [plan.roster for plan in plans if isinstance(plan, RoundPlan)] == [tuple(ELECTORS)]
