"""Credits are a fold over commits: they only grow, and nothing else makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.credits import credit, fold
from paceline.core.records import GlobalState
from tests.core.strategies import few

commits = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2**40), max_size=6).map(
    lambda shares: GlobalState(
        round_id=1, participating_nodes=sorted(shares), samples=[shares[name] for name in sorted(shares)]
    )
)
chains = st.lists(commits, max_size=8)


@few
@given(chains, commits)
def test_no_balance_ever_shrinks(before: list[GlobalState], commit: GlobalState) -> None:
    balances = fold(before)
    after = credit(balances, commit)
    assert all(after[peer] >= balance for peer, balance in balances.items())


@few
@given(chains, st.randoms(use_true_random=False))
def test_the_order_of_commits_changes_no_balance(chain: list[GlobalState], random: object) -> None:
    shuffled = chain[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled) == fold(chain)


@few
@given(chains, chains)
def test_the_fold_can_be_interrupted_anywhere(first: list[GlobalState], second: list[GlobalState]) -> None:
    balances = fold(first)
    for commit in second:
        balances = credit(balances, commit)
    assert balances == fold([*first, *second])


@few
@given(chains)
def test_all_balances_together_are_all_samples_together(chain: list[GlobalState]) -> None:
    assert sum(fold(chain).values()) == sum(sum(commit.samples) for commit in chain)


def test_counting_leaves_the_old_balances_alone() -> None:
    balances = {"a": 1}
    commit = GlobalState(round_id=1, participating_nodes=["a"], samples=[2])
    assert credit(balances, commit) == {"a": 3}
    assert balances == {"a": 1}


def test_nobody_is_credited_by_a_commit_whose_lists_disagree() -> None:
    with pytest.raises(ValueError):
        credit({}, GlobalState(round_id=1, participating_nodes=["a", "b"], samples=[1]))
