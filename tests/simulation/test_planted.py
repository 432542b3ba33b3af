"""Deliberate mistakes in the round machine: the simulation finds each in fewer than a thousand days."""

from __future__ import annotations

import pytest

from paceline.core.rounds import RoundMachine
from paceline.simulate.day import live_through
from tests.simulation import plants

MOST_SEEDS = 1000


@pytest.mark.parametrize(
    ("mistake", "breaks"),
    [
        (plants.AppliesBeforeCommit, {"the chain verifies"}),
        (plants.CountsAReceiptTwice, {"the chain verifies", "one commit per round", "rounds go on"}),
        (plants.ForgetsTheLease, {"rounds go on"}),
        (plants.VotesWithoutDisk, {"votes are on disk"}),
        (plants.ReusesABallot, {"one plan per ballot"}),
        (plants.ForgetsItsVote, {"promises are kept", "one vote per ballot"}),
        (plants.CountsStepsTwice, {"a step counts once"}),
        (plants.IgnoresVotes, {"one commit per round"}),
        (plants.PromisesTooLate, {"promises are durable"}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_planted_mistake_is_caught(mistake: type[RoundMachine], breaks: set[str]) -> None:
    days = (live_through(seed, machine_type=mistake) for seed in range(MOST_SEEDS))
    caught = next((day for day in days if day.violation), None)
    assert caught is not None and caught.violation in breaks
    assert not live_through(caught.seed).violation  # the day itself is not to blame
