"""Claims about the one sentence that says how a swarm does."""

from __future__ import annotations

import pytest

from paceline.core.nicknames import named
from paceline.watch.picture import PeerView, Picture, RoundView, VoidView
from paceline.watch.verdict import duration, verdict
from tests.core.history import peers

IDS = [key.peer_id for key in peers(4)]
NOW = 10_000.0


def peer(number: int = 0, standing: str = "train", step: int = 10, **more: object) -> PeerView:
    content = {
        "peer_id": IDS[number],
        "nickname": "x",
        "standing": standing,
        "round_id": 4,
        "inner_step": step,
        "samples": 80,
        "samples_per_s": 16.0,
    }
    return PeerView.model_validate(content | more)


def rounds(
    *losses: float, every_s: float = 10.0, until: float = NOW - 5, measured: bool = True
) -> list[RoundView]:
    first = until - every_s * (len(losses) - 1)
    return [
        RoundView(
            round_id=number,
            committed_at=first + every_s * (number - 1),
            avg_loss=loss + 1,
            val_loss=loss if measured else None,
        )
        for number, loss in enumerate(losses, start=1)
    ]


def picture(*views: RoundView, here: tuple[PeerView, ...] = (peer(0), peer(1)), **more: object) -> Picture:
    committed = [view for view in views if view.committed_at is not None]
    content = {
        "run_id": "demo",
        "at": NOW,
        "is_live": True,
        "rounds_planned": 20,
        "inner_steps": 20,
        "tokens_per_sample": 64,
        "parameters": 1000,
        "lease_s": 8.0,
        "peers": here,
        "rounds": views,
        "rounds_committed": len(committed),
        "last_commit_at": committed[-1].committed_at if committed else None,
        "quorum_needed": 2,
        "quorum_here": 2,
        "begin": NOW - 100,
        "heard_at": NOW - 1,
    }
    return Picture.model_validate(content | more)


@pytest.mark.parametrize(
    ("losses", "tone", "word", "detail"),
    [
        ((4.0, 3.0, 2.0), "good", "Learning", "validation loss 2.000, down 50% over 2 rounds"),
        ((2.0, 2.001), "calm", "Level", "validation loss 2.001, unchanged over 1 round"),
        ((2.0, 2.04), "watch", "Not learning", "validation loss 2.040, up 2.0% over 1 round"),
        ((2.0, 3.0), "bad", "Not learning", "validation loss 3.000, up 50% over 1 round"),
        ((2.0,), "good", "Begun", "validation loss 2.000 after the first measured round"),
        ((9.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.7), "good", "Learning", "down 10% over 5 rounds"),
    ],
)
def test_the_loss_of_the_last_rounds_says_whether_a_swarm_learns(
    losses: tuple[float, ...], tone: str, word: str, detail: str
) -> None:
    said = verdict(picture(*rounds(*losses)))
    assert (said.tone, said.word) == (tone, word)
    assert detail in said.detail


def test_where_nothing_is_measured_the_training_loss_counts() -> None:
    assert "training loss 3.000" in verdict(picture(*rounds(3.0, 2.0, measured=False))).detail


def test_before_the_first_commit_the_steps_count() -> None:
    said = verdict(picture(here=(peer(0, step=10), peer(1, step=20))))
    assert (said.word, said.detail) == ("On the first round", "2 peers, 75% of the steps done")


def test_a_run_that_is_finished_or_over_says_so() -> None:
    assert verdict(picture(*rounds(3.0, 2.0), rounds_planned=2)).word == "Finished"
    over = verdict(picture(*rounds(3.0, 2.0), is_live=False))
    assert (over.word, over.detail) == ("Ended", "2 of 20 rounds committed")


def test_nobody_there_is_told_from_nobody_yet() -> None:
    assert verdict(picture(here=(), begin=NOW - 1, heard_at=None)).word == "Looking for peers"
    for here in ((), (peer(0, "lost", seen_s=60.0),)):
        said = verdict(picture(*rounds(2.0), here=here, heard_at=NOW - 60))
        assert (said.tone, said.word, said.detail) == ("bad", "Nobody is heard", "for 60 s")
        assert "paceline doctor" in said.advice


def test_a_missing_quorum_says_how_many_to_start() -> None:
    said = verdict(picture(*rounds(2.0), here=(peer(0), peer(1, "lost", seen_s=9.0)), quorum_here=1))
    assert said.detail == "a commit needs 2 of the last members, 1 is here"
    assert said.advice.startswith(f"Lost: {named(IDS[1])}, silent for 9.0 s. Start 1 of them again")


def test_a_stall_names_the_last_attempt_and_the_slowest() -> None:
    working = RoundView(round_id=4, voids=(VoidView(term=1, attempt=0, cause="a stall"),))
    done = rounds(3.0, 2.9, 2.8, until=NOW - 60)
    said = verdict(picture(*done, working, here=(peer(0, step=3), peer(1, "wait", step=20))))
    assert said.detail == "no commit for 60 s, a round takes 10 s"
    assert said.advice.startswith("The last attempt was given up: a stall. Furthest behind: ")
    assert f"{named(IDS[0])}, at 3 of 20 steps of round 4" in said.advice


def test_a_run_that_stalls_before_its_first_commit_is_no_first_round() -> None:
    assert verdict(picture(ready_since=NOW - 20)).word == "On the first round"
    said = verdict(picture(ready_since=NOW - 1000))
    assert (said.word, said.detail) == ("Stalled", "no commit for 17 min, a round takes 10 s")


def test_a_lost_peer_does_not_hide_that_the_others_learn() -> None:
    here = (peer(0), peer(1), *(peer(number, "lost") for number in (2, 3)))
    said = verdict(picture(*rounds(3.0, 2.0), here=here))
    assert said.word == "Learning"
    assert said.advice == f"Lost: {named(IDS[2])}, {named(IDS[3])}. The others go on."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (4.5, "4.5 s"),
        (61, "61 s"),
        (720, "12 min"),
        (12_000, "3 h 20 min"),
        (7200, "2 h"),
        (2e5, "2 d 7 h"),
    ],
)
def test_a_length_of_time_is_spelled_in_its_own_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
