"""Errors name cause and remedy, and survive the way to another process."""

from __future__ import annotations

import pickle

import pytest

from paceline.core import errors
from paceline.core.errors import (
    ConfigError,
    HistoryBroken,
    JoinError,
    LedgerError,
    PacelineError,
    ProcessDied,
    RecordRejected,
    RunMismatch,
    SeedsUnreachable,
)

SAMPLES: list[PacelineError] = [
    ConfigError("node.yaml: threads is 0", "use 1 or more"),
    SeedsUnreachable(["/ip4/127.0.0.1/tcp/1"], 30.0),
    RunMismatch("aa", "bb"),
    RecordRejected("size", "a record of 4 KB or more"),
    HistoryBroken("round 3", "two receipts of one peer"),
    ProcessDied("averager"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_prints_its_cause_and_its_remedy(error: PacelineError) -> None:
    assert error.cause
    assert error.remedy
    assert str(error) == f"{error.cause}; {error.remedy}"


def test_an_error_without_a_remedy_prints_its_cause_alone() -> None:
    assert str(LedgerError("the disk is full")) == "the disk is full"


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_arrives_whole_in_another_process(error: PacelineError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_there_is_one_tree_of_errors() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(found) > 10
    assert all(issubclass(kind, PacelineError) for kind in found)
    assert issubclass(RunMismatch, JoinError)
    assert issubclass(HistoryBroken, LedgerError)


def test_the_facts_can_be_read_without_parsing_text() -> None:
    assert SeedsUnreachable(["a"], 3).tried == ["a"]
    assert RecordRejected("stale", "older than the last").reason == "stale"
    assert (HistoryBroken("round 3", "x").where, HistoryBroken("round 3", "x").what) == ("round 3", "x")


def test_unreachable_seeds_are_named_with_the_time_that_was_spent() -> None:
    text = str(SeedsUnreachable(["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"], 12.4))
    assert "/ip4/10.0.0.1/tcp/1, /ip4/10.0.0.2/tcp/1" in text
    assert "12 s" in text
    assert "firewall" in text


def test_a_mismatch_of_runs_names_both_digests() -> None:
    assert "aa" in str(RunMismatch("aa", "bb")) and "bb" in str(RunMismatch("aa", "bb"))
