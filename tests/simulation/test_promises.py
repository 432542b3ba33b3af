"""Every promise of the round protocol, held on five hundred bad days of simulated swarms."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from paceline.simulate.day import ENDING, ENDLESS, PATIENCE_S, UNNAMED, Day
from paceline.simulate.many import Tally, live_through_many

SEEDS = range(500)


@pytest.fixture(scope="module")
def days() -> list[Day]:
    return sorted(live_through_many(SEEDS, (3, 12), os.cpu_count() or 1), key=lambda day: day.seed)


def broken(days: list[Day], *invariants: str) -> list[str]:
    return [f"paceline simulate --seed {day.seed}: {day.what}" for day in days if day.violation in invariants]


def test_no_day_breaks_any_promise(days: list[Day]) -> None:
    assert [day.what for day in days if day.violation] == []
    assert len(days) == len(SEEDS)


def test_the_days_are_bad_and_yet_rounds_are_committed(days: list[Day]) -> None:
    tally = Tally()
    for day in days:
        tally.add(day)
    assert tally.rounds > 2 * len(days)
    assert {day.peers for day in days} == set(range(3, 13))
    assert sum(day.rounds <= 1 for day in days) > 50  # days on which hardly anything went right
    kinds = Counter(day.kind for day in days)
    assert kinds[ENDING] > 40 and kinds[UNNAMED] > 40 and kinds[ENDLESS] > 300


@pytest.mark.parametrize(
    "fault",
    [
        *("crash", "restart", "replace", "damage", "pause", "slow", "leave", "join"),
        *("weather", "bad_luck", "divide", "isolate", "heal", "clock"),
    ],
)
def test_every_fault_happens_on_many_days(days: list[Day], fault: str) -> None:
    assert sum(fault in day.faults for day in days) > 50


@pytest.mark.parametrize("blow", ["kill", "stop", "cut_off"])
def test_a_coordinator_is_struck_at_every_transition(days: list[Day], blow: str) -> None:
    moments = {
        *("PeerRecord", "RoundPlan", "RoundReceipt", "CommitRecord"),
        *("Promise", "Reduce", "Apply", "staged", "promoted", "appended"),
    }
    done = {fault for day in days for fault in day.faults}
    assert {f"{blow} a coordinator at {moment}" for moment in moments} <= done


@pytest.mark.parametrize("change", ["be_joined", "dismiss"])
def test_peers_join_and_leave_at_every_step_of_a_round(days: list[Day], change: str) -> None:
    done = {fault.rpartition(" ")[2] for day in days for fault in day.faults if fault.startswith(change)}
    assert {"RoundPlan", "Reduce", "RoundReceipt", "CommitRecord", "Apply", "Repair"} <= done


def test_there_are_two_coordinators_at_once_on_many_days(days: list[Day]) -> None:
    assert sum(day.rivalries > 0 for day in days) > 50


def test_no_two_commits_of_one_round_differ(days: list[Day]) -> None:
    assert broken(days, "one commit per round") == []


def test_whoever_has_applied_a_round_has_the_same_digest(days: list[Day]) -> None:
    assert broken(days, "one digest per round") == []


def test_the_chain_verifies(days: list[Day]) -> None:
    assert broken(days, "the chain verifies") == []


def test_a_run_that_ends_in_trouble_ends_for_everybody_who_is_there(days: list[Day]) -> None:
    ended = [day for day in days if day.kind == ENDING]
    assert broken(ended, "rounds go on") == []
    assert max(day.rounds for day in ended if not day.overlaps) <= 5
    assert max(day.rounds for day in ended if day.overlaps) <= 10


def test_credits_are_the_same_fold_everywhere_and_never_shrink(days: list[Day]) -> None:
    assert broken(days, "credits are one fold", "credits never shrink") == []


def test_no_step_is_credited_twice(days: list[Day]) -> None:
    assert broken(days, "a step counts once") == []


def test_on_half_of_the_days_training_goes_on_while_rounds_are_exchanged(days: list[Day]) -> None:
    overlapping = [day for day in days if day.overlaps]
    assert 0.4 < len(overlapping) / len(days) < 0.6
    assert sum(day.rounds for day in overlapping) > len(overlapping)


def test_a_peer_never_votes_twice_in_one_ballot(days: list[Day]) -> None:
    assert broken(days, "one vote per ballot", "votes only advance") == []


def test_a_peer_never_votes_below_a_term_it_has_promised(days: list[Day]) -> None:
    assert broken(days, "promised terms hold", "terms only grow") == []


def test_a_ballot_has_one_plan(days: list[Day]) -> None:
    assert broken(days, "one plan per ballot") == []


def test_a_vote_is_on_disk_promise_and_result_before_it_is_published(days: list[Day]) -> None:
    assert broken(days, "votes are on disk", "promises are durable") == []


def test_no_promise_is_ever_taken_back(days: list[Day]) -> None:
    assert broken(days, "promises are kept") == []


def test_a_round_commits_within_a_bounded_time_after_the_last_fault(days: list[Day]) -> None:
    assert broken(days, "rounds go on") == []
    assert all(day.recovery_s <= PATIENCE_S for day in days)
    assert sorted(day.recovery_s for day in days)[len(days) // 2] < 10.0
