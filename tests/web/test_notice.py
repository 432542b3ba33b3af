"""The one sentence that says why a swarm stands still."""

from __future__ import annotations

import pytest

from paceline.watch.notice import heard_at, notice
from tests.web.staged import BEGIN, peer, picture

SILENT = tuple(peer(number, standing="lost", seen_s=90.0) for number in range(3))


def test_nothing_is_said_while_all_is_well() -> None:
    assert notice(picture()) == ""


def test_silence_is_told_with_the_moment_from_which_on_it_lasts() -> None:
    told = notice(picture(peers=SILENT, at=BEGIN + 100))
    assert told.startswith(
        "Nobody has been heard since 2025-10-09 08:53:30 UTC, 1 min ago: the peers have stopped"
    )
    assert heard_at(picture(peers=SILENT, at=BEGIN + 100)) == BEGIN + 10
    long_ago = notice(picture(peers=(), heard_at=BEGIN - 9000, at=BEGIN))
    assert ", 2 h ago:" in long_ago


def test_peers_that_left_long_ago_are_not_heard_either() -> None:
    left = tuple(peer(number, standing="leave", seen_s=90.0) for number in range(3))
    assert notice(picture(peers=left, at=BEGIN + 100)).startswith("Nobody has been heard")


def test_a_watch_that_never_heard_anybody_says_so_after_a_moment() -> None:
    nobody = picture(peers=(), begin=BEGIN, at=BEGIN + 7)
    assert notice(nobody) == ""  # the first look may take some seconds
    told = notice(nobody.model_copy(update={"at": BEGIN + 30}))
    assert told.startswith(
        "Nobody has been heard since 2025-10-09 08:53:20 UTC, when the watch began, 30 s ago:"
    )
    assert heard_at(nobody) is None


def test_a_missing_quorum_is_told_with_its_numbers() -> None:
    told = notice(picture(quorum_needed=3, quorum_here=1))
    assert told == "No round can end: 1 of the 3 peers that it takes are here."


@pytest.mark.parametrize("over", [{"is_live": False}, {"rounds_committed": 10}])
def test_nothing_is_wrong_with_what_is_over(over: dict[str, object]) -> None:
    assert notice(picture(peers=SILENT, at=BEGIN + 100, quorum_here=0, **over)) == ""
