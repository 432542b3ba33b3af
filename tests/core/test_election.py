"""Quorums of one electorate always meet, and each term has its own order."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.election import coordinator, has_quorum, quorum_size, ranking
from tests.core.strategies import few

NAMES = [f"peer-{number}" for number in range(9)]
electorates = st.sets(st.sampled_from(NAMES), min_size=1)
anybody = st.sets(st.sampled_from([*NAMES, "stranger", "other"]))


@few
@given(electorates, anybody, anybody, st.integers(1, 5))
def test_two_quorums_of_one_electorate_always_share_a_peer(
    electorate: set[str], ours: set[str], theirs: set[str], least: int
) -> None:
    both = [has_quorum(side, electorate, run_id="run", min_members=least) for side in (ours, theirs)]
    if all(both):
        assert ours & theirs & electorate


@pytest.mark.parametrize("size", range(1, 7))
def test_every_pair_of_quorums_of_a_small_electorate_meets(size: int) -> None:
    members = NAMES[:size]
    groups = [set(group) for length in range(size + 1) for group in combinations(members, length)]
    quorums = [group for group in groups if has_quorum(group, members, run_id="run")]
    assert quorums
    assert all(one & other for one in quorums for other in quorums)


@pytest.mark.parametrize("size", [2, 4, 6])
def test_of_two_halves_exactly_one_can_go_on(size: int) -> None:
    members = NAMES[:size]
    for half in combinations(members, size // 2):
        other = set(members) - set(half)
        assert has_quorum(half, members, run_id="run") != has_quorum(other, members, run_id="run")


@few
@given(electorates, anybody, st.sampled_from(NAMES))
def test_another_voter_never_loses_a_quorum(electorate: set[str], voters: set[str], more: str) -> None:
    if has_quorum(voters, electorate, run_id="run"):
        assert has_quorum(voters | {more}, electorate, run_id="run")


@few
@given(electorates, st.integers(1, 9))
def test_as_many_electors_as_quorum_size_says_are_enough(electorate: set[str], least: int) -> None:
    size = quorum_size(electorate, least)
    if size <= len(electorate):
        assert has_quorum(sorted(electorate)[:size], electorate, run_id="run", min_members=least)


def test_a_voter_counts_once() -> None:
    assert not has_quorum(["a", "a", "a"], ["a", "b", "c"], run_id="run")


def test_too_few_members_are_no_quorum_even_when_all_electors_agree() -> None:
    assert not has_quorum(["a"], ["a"], run_id="run", min_members=2)
    assert has_quorum(["a", "newcomer"], ["a"], run_id="run", min_members=2)


def test_strangers_alone_never_outvote_the_electorate() -> None:
    assert not has_quorum(["x", "y", "z", "a"], ["a", "b", "c"], run_id="run")


def test_without_founders_the_least_number_decides() -> None:
    assert not has_quorum([], [], run_id="run", min_members=1)
    assert has_quorum(["a", "b"], [], run_id="run", min_members=2)
    assert quorum_size([], 1) == 1


@few
@given(st.permutations(NAMES), st.integers(0, 2**40))
def test_everybody_computes_the_same_ranking(order: list[str], term: int) -> None:
    assert ranking("run", term, order) == ranking("run", term, NAMES)
    assert coordinator("run", term, order) == ranking("run", term, NAMES)[0]


@few
@given(st.integers(0, 2**40), st.sampled_from(NAMES))
def test_losing_a_candidate_changes_nothing_for_those_ahead(term: int, lost: str) -> None:
    before = ranking("run", term, NAMES)
    assert ranking("run", term, set(NAMES) - {lost}) == [name for name in before if name != lost]


def test_the_duty_goes_round() -> None:
    turns = Counter(coordinator("run", term, NAMES) for term in range(900))
    assert set(turns) == set(NAMES)
    assert max(turns.values()) < 3 * min(turns.values())


def test_runs_do_not_share_their_order() -> None:
    assert any(ranking("one", term, NAMES) != ranking("two", term, NAMES) for term in range(3))


def test_nobody_leads_when_nobody_is_there() -> None:
    assert coordinator("run", 1, []) == ""
