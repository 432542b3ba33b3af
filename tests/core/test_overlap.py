"""Claims about when rounds end, and how far training may run ahead."""

from __future__ import annotations

import pytest

from paceline.core.overlap import Timetable

RUNS = [
    Timetable(inner_steps, turns * fragments, fragments)
    for inner_steps in (1, 2, 5, 20, 33)
    for fragments in (1, 2, 3, 5)
    for turns in (1, 2, 4)
    if fragments <= inner_steps
]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_a_run_has_as_many_steps_whatever_its_number_of_fragments(run: Timetable) -> None:
    steps = [run.steps_of(round_id) for round_id in range(1, run.rounds + 1)]
    assert sum(steps) == run.total_steps == run.inner_steps * (run.rounds // run.fragments)
    assert run.ends_at(run.rounds) == run.total_steps


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_every_round_has_a_step_at_least(run: Timetable) -> None:
    assert min(run.steps_of(round_id) for round_id in range(1, run.rounds + 1)) >= 1


def test_every_fragment_is_exchanged_each_inner_steps() -> None:
    run = Timetable(inner_steps=20, rounds=15, fragments=3)
    sent: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for round_id in range(1, 13):  # the last turn is moved up so that it ends with the run
        sent[run.fragment_of(round_id)].append(run.ends_at(round_id))
    assert sent == {0: [20, 40, 60, 80], 1: [26, 46, 66, 86], 2: [33, 53, 73, 93]}
    assert [run.ends_at(round_id) for round_id in (13, 14, 15)] == [98, 99, 100]


def test_training_runs_ahead_a_quarter_of_the_steps_or_the_delay_but_no_more_than_a_round() -> None:
    def most_ahead(delay_steps: int, round_id: int = 1, fragments: int = 1) -> int:
        return Timetable(20, 10 * fragments, fragments, delay_steps).most_ahead(round_id)

    assert most_ahead(0) == 0  # it waits
    assert most_ahead(1) == most_ahead(5) == 5
    assert most_ahead(9) == 9
    assert most_ahead(3, fragments=5) == 4  # the next round has no more steps
    assert most_ahead(3, round_id=49, fragments=5) == 1  # nor has the last one
    assert most_ahead(3, round_id=10) == 0  # after which there is nothing to train for
