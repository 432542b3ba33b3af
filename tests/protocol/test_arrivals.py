"""Claims about who is waited for, and when a slow peer stops for the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from paceline.core.arrivals import Arrivals
from paceline.core.chain import genesis
from paceline.core.records import Phase
from paceline.core.standing import Standing
from paceline.core.voice import Progress
from tests.protocol.said import heartbeat
from tests.protocol.virtual import make_run, peer_ids

FAST, SECOND, THIRD, ME = peer_ids(4)
PEERS = [FAST, SECOND, THIRD, ME]
STEPS = 10  # of make_run; each is 8 samples


@dataclass
class View:
    """What a peer hears in a round that began at 0, and how it judges that."""

    founders: list[str] = field(default_factory=lambda: list(PEERS))
    arrivals: Arrivals = field(default_factory=Arrivals)

    def __post_init__(self) -> None:
        run = make_run(self.founders)
        self.standing = Standing(run, ME, genesis(run, "00" * 32, "11" * 32), 0.0, term=1, coordinator=FAST)

    def hear(self, peer: str, now: float, done: int, phase: Phase = Phase.TRAIN, **said: float) -> None:
        """Take in a heartbeat of a peer that has gone on at one speed since the round began."""
        record = heartbeat(self.standing.run, self.standing.head, peer, term=1, coordinator=FAST, phase=phase)
        honest: dict[str, object] = {
            "inner_step": done,
            "samples": done * 8,
            "samples_per_s": done * 8 / now if now else 0.0,
        }
        self.standing.notice(record.model_copy(update={"seq": int(now * 10) + 1, **honest, **said}), b"", now)
        self.arrivals.watch(self.standing, now)

    def stops(self, now: float, done: int) -> bool:
        """Whether this peer, with so many steps at the same speed since the beginning, trains no more."""
        self.hear(ME, now, done)
        return self.arrivals.is_over(Progress(done, done * 8, done * 8 / now, 2.0), self.standing, now)

    def waits(self, now: float) -> bool:
        """Whether a coordinator that knows this would wait."""
        return self.arrivals.are_awaited(self.standing.in_sync(now), (), self.standing, now)


def test_a_slow_peer_stops_when_the_others_will_be_done_before_its_next_step() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 9.0, 9)  # they are done at 10
    assert not view.stops(9.0, 9)  # as fast as they are
    assert view.stops(9.0, 2)  # its third step would end at 13.5
    assert view.arrivals.lags


def test_a_slow_peer_goes_on_while_another_step_is_of_use() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 6.0, 6)
    assert not view.stops(6.0, 2)  # its third step ends at 9
    assert view.arrivals.lags  # but not in time with all of them: others should hear of it more often


def test_a_slow_peer_stops_so_late_that_others_just_hear_of_it_however_long_a_round_is() -> None:
    view = View()
    view.standing.run = view.standing.run.model_copy(update={"inner_steps": 10_000})
    for peer in PEERS[:3]:
        view.hear(peer, 500.0, 5_000)  # they are done at 1,000
    for now in (985.0, 999.5):
        for peer in PEERS[:3]:
            view.hear(peer, now, int(10 * now))
        assert view.stops(now, int(5 * now)) is (now > 998)


@pytest.mark.parametrize("absent", PEERS[:3])
def test_no_peer_stops_for_others_while_one_who_sets_the_pace_is_not_heard(absent: str) -> None:
    # It may be the peer itself that hears nobody, and it could not take it back.
    never, fell_silent = View(), View()
    for peer in PEERS[:3]:
        if peer == absent:
            fell_silent.hear(peer, 0.5, 1)
        else:
            never.hear(peer, 9.0, 9)
            fell_silent.hear(peer, 9.0, 9)
    assert not never.stops(9.0, 2) and not fell_silent.stops(9.0, 2)
    never.hear(absent, 9.0, 9)
    assert never.stops(9.0, 2)


def test_no_peer_stops_for_others_while_one_has_not_told_of_a_step() -> None:
    view = View()
    view.hear(FAST, 9.0, 9)
    view.hear(SECOND, 9.0, 9)
    view.hear(THIRD, 9.0, 0)
    assert not view.stops(9.0, 2)


def test_no_peer_stops_for_others_in_a_first_round_that_anybody_may_still_join() -> None:
    view = View(founders=[])
    for peer in PEERS[:3]:
        view.hear(peer, 9.0, 9)
    assert not view.stops(9.0, 2)


@pytest.mark.parametrize(
    "lie",
    [{"samples_per_s": 1e12}, {"samples": 1}, {"samples": 0}, {"samples_per_s": 1e12, "samples": 1}],
    ids=str,
)
def test_nobody_stops_for_a_speed_that_a_peer_claims_and_has_not_shown(lie: dict[str, float]) -> None:
    # A peer that went back to its anchor has few samples for its steps, and means no harm.
    view = View()
    for peer in PEERS[:3]:
        view.hear(
            peer, 4.0, 2, Phase.TRAIN, **lie
        )  # two steps in four seconds; twice as fast from now on: done at 12
    assert not view.stops(4.0, 1)  # its second step ends at 8
    assert not view.stops(6.0, 2)  # its third step ends at 9


def test_more_steps_than_a_round_has_are_as_good_as_all_of_them() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 9.0, 10**6)
    assert view.stops(9.0, 2)
    view.hear(FAST, 9.5, 10**6, Phase.WAIT)
    assert view.arrivals.are_half(view.standing, 20.0) is False


def test_a_peer_that_stopped_early_makes_nobody_else_stop() -> None:
    view = View()
    view.hear(SECOND, 4.0, 1, Phase.WAIT)  # it would have been done at 40
    view.hear(THIRD, 4.0, 1, Phase.WAIT)
    view.hear(FAST, 4.0, 8)
    assert not view.arrivals.are_half(view.standing, 4.0)
    assert not view.stops(4.0, 2)  # done at 20: as the second of four it still sets the pace
    assert view.waits(5.0)
    view.hear(FAST, 5.0, 10, Phase.WAIT)
    assert view.waits(5.0)


def test_nobody_waits_for_a_peer_that_stopped_early() -> None:
    view = View()
    for peer in PEERS[:2]:
        view.hear(peer, 5.0, 10, Phase.WAIT)
    view.hear(THIRD, 5.0, 2, Phase.WAIT)
    view.hear(ME, 5.0, 9)
    assert view.waits(5.5)  # for the one that is nearly done
    view.hear(ME, 5.6, 10, Phase.WAIT)
    assert not view.waits(5.6)


def test_a_peer_that_hangs_is_not_waited_for_once_those_who_stopped_would_have_been_done() -> None:
    view = View()
    view.hear(FAST, 5.0, 10, Phase.WAIT)
    view.hear(SECOND, 5.0, 5, Phase.WAIT)  # it would have been done at 10
    view.hear(THIRD, 5.0, 4, Phase.WAIT)  # and it at 12.5
    view.hear(ME, 5.0, 7)
    for now in (9.0, 12.0, 14.0, 20.0):
        for peer, done in zip(PEERS[:3], (10, 5, 4), strict=True):
            view.hear(peer, now, done, Phase.WAIT)
        view.hear(ME, now, 7, samples_per_s=11.2)
        if now == 9.0:
            assert view.waits(now)
    assert not view.waits(20.0)


def test_arrivals_that_were_seen_weigh_more_than_what_was_foreseen() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 4.0, 2)  # done at 20, it seems
    for peer in PEERS[:3]:
        view.hear(peer, 6.0, 10, Phase.WAIT)
    for peer in PEERS[:3]:
        view.hear(peer, 6.5, 2, Phase.WAIT)  # whatever is said later
    assert view.stops(6.5, 2)


def test_nobody_waits_for_one_that_can_not_come_before_the_deadline() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 10.0, 10, Phase.WAIT)
    view.hear(ME, 10.0, 9)
    assert view.waits(10.1)
    view.hear(ME, 10.2, 2)
    assert not view.waits(10.2)


def test_one_that_takes_no_step_any_more_is_not_waited_for_though_its_heart_beats() -> None:
    # Others have stopped early for its sake and train no more: nothing would end this but their full time.
    view = View()
    view.hear(FAST, 7.0, 7)
    view.hear(FAST, 9.0, 9)
    view.hear(SECOND, 10.0, 10, Phase.WAIT)
    view.hear(THIRD, 9.5, 2, Phase.WAIT)  # it would have been done at 47.5
    view.hear(ME, 9.5, 2, Phase.WAIT)
    lease_s = view.standing.run.pace.lease_s
    for silent_s in (2.0, 4.0, 6.0, lease_s - 0.5):
        view.hear(FAST, 9.0 + silent_s, 9)
        assert view.waits(9.0 + silent_s)
    for peer in PEERS:
        view.hear(peer, 9.6 + lease_s, 9 if peer == FAST else 2, Phase.TRAIN if peer == FAST else Phase.WAIT)
    assert not view.waits(9.6 + lease_s)


def test_one_whose_steps_are_long_is_waited_for_between_two_of_them() -> None:
    view = View()
    view.hear(FAST, 1.0, 0)
    view.hear(FAST, 30.0, 1)
    for now in (45.0, 60.0, 100.0):
        for peer in PEERS[1:]:
            view.hear(peer, now, 2, Phase.WAIT)
        view.hear(FAST, now, 1)
        assert view.waits(now)


def test_a_peer_that_began_slowly_and_will_be_there_in_time_does_not_stop() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 8.0, 8)  # done at 10
    view.hear(ME, 8.0, 2)
    sped_up = Progress(2, 16, 32.0, 2.0)  # a step in a quarter of a second, after a lull: done at 10
    assert not view.arrivals.is_over(sped_up, view.standing, 8.0)
    assert not view.arrivals.lags


def test_a_peer_that_began_slowly_and_will_be_there_in_time_is_waited_for() -> None:
    view = View()
    for peer in PEERS[:3]:
        view.hear(peer, 10.0, 10, Phase.WAIT)
    view.hear(ME, 10.0, 6, Phase.TRAIN, samples_per_s=20.0)  # four steps in 1.6 s
    assert view.waits(10.0)
