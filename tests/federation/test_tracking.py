"""The credit tracker is the swarm's fold, one contribution at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline import CreditTracker, GlobalState
from paceline.core.credits import fold

CONTRIBUTIONS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 100)))


@given(CONTRIBUTIONS)
def test_credits_are_the_fold_over_the_same_commits(contributions: list[tuple[str, int, int]]) -> None:
    tracker = CreditTracker()
    for node_id, samples, round_id in contributions:
        tracker.record_contribution(node_id, samples, round_id)
    assert tracker.all_credits() == fold(
        GlobalState(round_id=round_id, participating_nodes=[node_id], samples=[samples])
        for node_id, samples, round_id in contributions
    )
    for node_id in "abc":
        entries = [(round_id, samples) for name, samples, round_id in contributions if name == node_id]
        assert tracker.history(node_id) == entries
        assert tracker.get_credits(node_id) == sum(samples for _, samples in entries)


def test_a_stranger_has_no_credits_and_asking_does_not_make_one_known() -> None:
    tracker = CreditTracker()
    assert tracker.get_credits("stranger") == 0
    assert tracker.history("stranger") == []
    assert tracker.all_credits() == {}


def test_what_a_tracker_returns_is_a_copy() -> None:
    tracker = CreditTracker()
    tracker.record_contribution("a", samples=5, round_id=1)
    tracker.all_credits()["a"] = 99
    tracker.history("a").clear()
    assert type(tracker.all_credits()) is dict
    assert (tracker.all_credits(), tracker.history("a")) == ({"a": 5}, [(1, 5)])


@pytest.mark.parametrize(("samples", "round_id"), [(-1, 1), (1, -1)])
def test_a_negative_contribution_is_refused_and_changes_nothing(samples: int, round_id: int) -> None:
    tracker = CreditTracker()
    with pytest.raises(ValueError, match=r"node 'a': .* can't be credited"):
        tracker.record_contribution("a", samples, round_id)
    assert (tracker.all_credits(), tracker.history("a")) == ({}, [])
