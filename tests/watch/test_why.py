"""Claims about why a peer got no credit: every case that there is, from evidence alone."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from paceline.core.config import PaceConfig
from paceline.core.members import MAX_OVER_MEDIAN
from paceline.core.nicknames import named
from paceline.core.records import MAX_MEMBERS
from paceline.watch.evidence import Blame, Evidence, Glimpse
from paceline.watch.picture import Standing
from paceline.watch.why import Kind, Reason, explain
from tests.core.history import peers, run_of

KEYS = peers(MAX_MEMBERS + 1)
ME, OTHER, THIRD = (key.peer_id for key in KEYS[:3])
RUN = run_of(KEYS[:3], rounds=10, pace=PaceConfig(lease_s=8.0))
HEAD = "0a" * 32
ROUND = 5
COMMITTED = Evidence(
    run=RUN,
    height=7,
    known=frozenset({ME, OTHER, THIRD}),
    members=(OTHER, THIRD),
    samples=(80, 80),
    prev_digest=HEAD,
    begun_at=1000.0,
    watched=True,
)
WITH_ME = replace(COMMITTED, members=(ME, OTHER, THIRD), samples=(80, 80, 80))
RUNNING = replace(COMMITTED, height=ROUND - 1, members=(), samples=())


def seen(standing: Standing = "wait", round_id: int = ROUND, samples: int = 80, **more: object) -> Evidence:
    glimpse = Glimpse(1010.0, standing, round_id, samples, HEAD)
    return replace(COMMITTED, glimpse=replace(glimpse, **more))  # type: ignore[arg-type]


BLAMED = (
    Blame(OTHER, 0, "lost the connection to it", ME),
    Blame(THIRD, 0, "", ME),
    Blame(ME, 0, "this peer stood still for 9 s", ME),
)
CROWD = tuple(sorted(key.peer_id for key in KEYS[1:]))
CASES: dict[str, tuple[Evidence, Kind, str]] = {
    "credited in full": (replace(WITH_ME, trained=80), "credited", "credited 80 sequences in round 5, all"),
    "credited, and nobody knows of how many": (WITH_ME, "credited", "was credited 80 sequences in round 5"),
    "credited less than trained": (
        replace(WITH_ME, trained=96),
        "credited_less",
        "credited 80 of 96 sequences in round 5: the rest came after the coordinator had looked",
    ),
    "credited no more than is sensible": (
        replace(WITH_ME, trained=9999, samples=(80 * MAX_OVER_MEDIAN, 80, 80)),
        "credited_less",
        "nobody counts more than 16 times the median member",
    ),
    "a member without a sample": (
        replace(WITH_ME, samples=(0, 80, 80)),
        "trained_nothing",
        "had trained on nothing",
    ),
    "in the round without a sample": (
        seen("train", samples=0),
        "trained_nothing",
        "had trained on nothing yet",
    ),
    "silent at plan time": (
        seen("lost", silent_s=30.0),
        "not_heard",
        "silent for 30 s, and after 8 s a peer",
    ),
    "silent, though nobody called it lost": (seen("train", silent_s=9.0), "not_heard", "silent for 9 s"),
    "never heard before the plan": (COMMITTED, "not_heard", "was not heard of before round 5 was planned"),
    "at work and not counted": (seen(), "not_heard", "the coordinator did not count it"),
    "repairing": (seen("repair", samples=0), "repairing", "was repairing itself"),
    "on another head": (seen(head="0b" * 32), "other_head", "stood on another commit (0b0b0b0b)"),
    "in an earlier round": (seen(round_id=3), "behind", "was still in round 3"),
    "started again in the middle": (
        replace(seen("train", samples=0), started_at=1030.0),
        "restarted",
        "was started 30 s after round 5 had begun",
    ),
    "started again and repairing": (
        replace(seen("repair", samples=0), started_at=1030.0),
        "restarted",
        "it was fetching the state",
    ),
    "left": (seen("leave"), "left", "had left before round 5 was planned"),
    "blamed and excluded": (
        replace(seen(), blames=BLAMED, took_part=frozenset({0})),
        "failed",
        "failed in the all-reduce of round 5 (attempt 0)",
    ),
    "failed in every attempt": (
        replace(seen(), blames=(Blame(ME, 0, "a", ""), Blame(ME, 1, "b", "")), took_part=frozenset({0, 1})),
        "failed",
        "(attempts 0, 1), and the round went on without it: a; b",
    ),
    "blamed by members whose names are not known": (
        replace(COMMITTED, blames=(Blame("", 2, "", ME),)),
        "failed",
        "(attempt 2), and the round went on without it; members blamed it",
    ),
    "in an attempt that was given up, and not in the next": (
        replace(seen(), took_part=frozenset({0})),
        "failed",
        "(attempt 0), and the round went on without it",
    ),
    "waiting for its turn": (
        replace(seen(), members=CROWD, samples=(80,) * MAX_MEMBERS),
        "waits_for_turn",
        "64 members are the most",
    ),
    "waiting for its turn in a round that goes on": (
        replace(RUNNING, planned=CROWD),
        "waits_for_turn",
        "64 members",
    ),
    "not committed yet": (
        replace(RUNNING, glimpse=Glimpse(1.0, "train", ROUND, 40)),
        "not_committed",
        "round 5 is not committed yet; ",
    ),
    "given up so far": (
        replace(RUNNING, voids={1: "not enough receipts in time", 0: "a stall"}, blames=BLAMED),
        "voided",
        "was given up so far: attempt 0: a stall; attempt 1: not enough receipts in time",
    ),
    "not begun": (replace(RUNNING, height=2), "not_begun", "the last committed one is round 2"),
    "beyond the end": (replace(COMMITTED, run=run_of(KEYS[:3], rounds=4)), "no_round", "has rounds 1 to 4"),
    "a stranger": (replace(COMMITTED, known=frozenset({OTHER})), "unknown_peer", "nobody called"),
    "not told": (replace(COMMITTED, watched=False), "untold", "not among the 2 members of round 5"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_told_apart_in_words(case: str) -> None:
    evidence, kind, words = CASES[case]
    reason = explain(ME, ROUND, evidence)
    assert (reason.kind, reason.peer_id, reason.round_id) == (kind, ME, ROUND)
    assert words in reason.said
    assert bool(reason.advice) is (kind != "credited")


def test_every_kind_of_reason_has_a_case() -> None:
    assert {kind for _, kind, _ in CASES.values()} == set(get_args(Kind))


def test_who_blamed_a_peer_is_named_and_its_own_word_is_heard_first() -> None:
    reason = explain(ME, ROUND, CASES["blamed and excluded"][0])
    assert reason.blamed_by == tuple(sorted((ME, OTHER, THIRD)))
    assert reason.missed == "reduce"
    assert named(OTHER) in reason.said
    assert reason.said.index("this peer stood still") < reason.said.index("lost the connection")


def test_what_was_missed_and_credited_is_there_for_programs() -> None:
    full = explain(ME, ROUND, CASES["credited less than trained"][0])
    assert (full.credited, full.trained, full.missed) == (80, 96, "")
    assert explain(ME, ROUND, seen("repair")).missed == "plan"
    assert explain(ME, ROUND, seen(samples=0)).missed == "train"
    assert Reason.model_validate_json(full.model_dump_json()) == full


def test_somebody_elses_failure_is_not_the_peers_own() -> None:
    others = (Blame(OTHER, 0, "lost it", THIRD), Blame(THIRD, 0, "lost it", OTHER))
    assert explain(ME, ROUND, replace(seen("repair"), blames=others)).kind == "repairing"


def test_a_blame_in_a_round_that_was_committed_with_the_peer_takes_no_credit() -> None:
    assert explain(ME, ROUND, replace(WITH_ME, blames=BLAMED, trained=80)).kind == "credited"
