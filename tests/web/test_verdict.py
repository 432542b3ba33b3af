"""What the page says of a swarm in words, for every state that one can be in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from paceline.core.nicknames import nickname
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.watch.verdict import verdict as in_words
from paceline.web.app import Observatory
from paceline.web.exporter import METRICS
from paceline.web.server import WebServer
from tests.web.browsing import Visit, needs_chromium
from tests.web.made_up import BEGIN, LEASE_S, MadeUpRun, MadeUpSource

pytestmark = needs_chromium
RUN = MadeUpRun()
CALM = RUN.picture(BEGIN + 700.0)
"""Everybody is here, and 14 rounds are committed."""


FIRST: dict[str, Any] = {
    "rounds": (RoundView(round_id=1),),
    "rounds_committed": 0,
    "last_commit_at": None,
    "ready_since": CALM.at,
}
IDLE = tuple(
    peer.model_copy(update={"inner_step": 0, "samples": 0, "samples_per_s": 0.0}) for peer in CALM.peers
)
STRANGER = CALM.peers[0].model_copy(
    update={"peer_id": "stranger", "is_member": False, "samples": 9, "inner_step": 1, "samples_per_s": 1e-9}
)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with WebServer("127.0.0.1", 0, Observatory(MadeUpSource(RUN))) as server:
        context = browser.new_context()
        yield Visit(context.new_page()).open(f"http://{server.address}").page
        context.close()


def verdict(page: Page, picture: Picture, later_s: float = 0.0) -> dict[str, str]:
    said = page.evaluate(
        "([picture, later]) => paceline.verdict(picture, picture.at + later)",
        [picture.model_dump(mode="json"), later_s],
    )
    assert isinstance(said, dict)
    return said


def changed(picture: Picture = CALM, **fields: Any) -> Picture:
    return Picture.model_validate(picture.model_copy(update=fields).model_dump())


def all_peers(**fields: Any) -> tuple[PeerView, ...]:
    return tuple(peer.model_copy(update=fields) for peer in CALM.peers)


def with_losses(*losses: float | None) -> Picture:
    """The last rounds of a run, with these validation losses."""
    rounds = list(CALM.rounds[:-1])[-len(losses) :]
    told = tuple(
        view.model_copy(update={"val_loss": loss}) for view, loss in zip(rounds, losses, strict=True)
    )
    return changed(rounds=told)


def test_a_swarm_learns_when_its_validation_loss_falls(page: Page) -> None:
    said = verdict(page, with_losses(2.5, 2.4, 2.3, 2.3, 2.25, 2.2))
    assert (said["word"], said["tone"]) == ("Learning", "good")
    assert said["detail"] == "validation loss 2.200, down 12 % over 5 rounds"


def test_only_the_last_five_rounds_count(page: Page) -> None:
    said = verdict(page, with_losses(9.0, 8.0, 2.3, 2.3, 2.3, 2.3, 2.3, 2.31))
    assert (said["word"], said["tone"]) == ("Not learning", "watch")
    assert said["detail"] == "validation loss 2.310, up 0.4 % over 5 rounds"


def test_a_loss_that_rises_much_is_bad(page: Page) -> None:
    said = verdict(page, with_losses(2.0, 2.1, 2.2, 2.3, 2.4, 2.5))
    assert (said["word"], said["tone"]) == ("Not learning", "bad")


def test_a_loss_that_stays_is_level(page: Page) -> None:
    said = verdict(page, with_losses(2.0, 2.1, 2.0))
    assert (said["word"], said["detail"]) == ("Level", "validation loss 2.000, unchanged over 2 rounds")


def test_the_training_loss_stands_in_where_nothing_is_measured(page: Page) -> None:
    said = verdict(page, with_losses(None, None, None, None))
    assert said["detail"].startswith("training loss ")


def test_the_first_round_is_no_failure(page: Page) -> None:
    said = verdict(page, RUN.picture(BEGIN + 20.0))
    assert said["word"] == "On the first round"
    assert said["detail"].startswith("7 peers, ")
    assert verdict(page, RUN.picture((RUN.commits[0].committed_at or 0) + 1))["word"] == "Begun"


def test_a_swarm_is_stalled_when_three_rounds_would_have_fit(page: Page) -> None:
    waited = CALM.at - (CALM.last_commit_at or 0)
    assert verdict(page, CALM, 140 - waited)["word"] == "Learning"
    said = verdict(page, CALM, 170 - waited)
    assert (said["word"], said["tone"]) == ("Stalled", "bad")
    assert said["detail"] == "no commit for 170 s, a round takes 49 s"
    assert said["advice"].startswith(f"Furthest behind: {nickname(RUN.peers[1])}, at ")


STALLS: dict[str, tuple[dict[str, Any], float]] = {
    "two rounds after the last commit": ({}, 98.0),
    "more than three rounds after the last commit": ({}, 170.0),
    "leases that are longer than rounds": ({"lease_s": 500.0}, 900.0),
    "two leases": ({"lease_s": 500.0}, 1100.0),
    "a first round in time": (FIRST, 100.0),
    "a first round that never ends": (FIRST, 10_000.0),
    "too few are here for the first": (FIRST | {"ready_since": None}, 10_000.0),
    "nobody has trained": (FIRST | {"peers": IDLE}, 100.0),
    "nobody ever trains": (FIRST | {"peers": IDLE}, 200.0),
    "a stranger claims to be slow": (FIRST | {"peers": (*IDLE, STRANGER)}, 200.0),
    "the monitor missed rounds": ({"rounds": (CALM.rounds[0], *CALM.rounds[-3:-1])}, 170.0),
}


@pytest.mark.parametrize("case", STALLS)
def test_the_page_the_terminal_and_the_alert_agree_on_a_stall(page: Page, case: str) -> None:
    fields, waited_s = STALLS[case]
    shown = changed(**fields)
    since = shown.last_commit_at or shown.ready_since or shown.at
    shown = changed(shown, at=since + waited_s)
    said, told = verdict(page, shown), in_words(shown)
    assert said["word"] == told.word
    metrics = {metric.name: next(iter(metric.read(shown)))[1] for metric in METRICS if not metric.labels}
    wait, limit = metrics["commit_wait_seconds"], metrics["stalled_after_seconds"]
    assert limit is not None
    assert (wait is not None and wait > limit) == (told.word == "Stalled")
    is_stall = case in (
        *("more than three rounds after the last commit", "two leases", "a first round that never ends"),
        *("nobody ever trains", "a stranger claims to be slow", "the monitor missed rounds"),
    )
    assert is_stall == (told.word == "Stalled")
    if is_stall:
        assert said["detail"] == told.detail


def test_a_stalled_swarm_says_who_is_lost_and_what_failed(page: Page) -> None:
    lost, *others = CALM.peers
    peers = (lost.model_copy(update={"standing": "lost", "seen_s": 42.0}), *others)
    working = RoundView(round_id=15, voids=RUN.commits[RUN.voided_in - 1].voids)
    said = verdict(page, changed(peers=peers, rounds=(*CALM.rounds[:-1], working)), 500)
    assert said["advice"].startswith(
        f"Lost: {lost.nickname}, silent for 42 s. The last attempt was given up: {RUN.cause}."
    )


def test_a_swarm_without_its_quorum_says_how_many_are_missing(page: Page) -> None:
    said = verdict(page, changed(quorum_needed=5, quorum_here=3))
    assert (said["word"], said["tone"]) == ("Cannot commit", "bad")
    assert said["detail"] == "a commit needs 5 of the last members, 3 are here"
    assert said["advice"].startswith("Start 2 of them again")


def test_a_swarm_that_is_not_heard_says_since_when(page: Page) -> None:
    silent = changed(peers=all_peers(standing="lost", seen_s=100.0))
    clock = page.evaluate("(at) => paceline.words.clock(at, false)", silent.at - 100.0)
    said = verdict(page, silent)
    assert (said["word"], said["detail"], said["tone"]) == ("Nobody is heard", f"since {clock}", "bad")


def test_a_watch_that_has_just_begun_only_looks(page: Page) -> None:
    nothing: dict[str, Any] = {"peers": (), "rounds": (), "rounds_committed": 0, "last_commit_at": None}
    assert verdict(page, changed(**nothing, begin=CALM.at - 1))["word"] == "Looking for peers"
    said = verdict(page, changed(**nothing, begin=CALM.at - LEASE_S - 1))
    assert (said["word"], said["tone"]) == ("Nobody is heard", "bad")


def test_what_is_finished_is_neither_stalled_nor_silent(page: Page) -> None:
    over = RUN.picture(RUN.end)
    said = verdict(page, changed(over, peers=all_peers(standing="lost", seen_s=999.0)), 10_000)
    assert (said["word"], said["tone"]) == ("Finished", "over")
    assert said["detail"].startswith("all 40 rounds, validation loss 1.")


def test_waste_is_told_with_the_peer_that_is_waited_for(page: Page) -> None:
    said = verdict(page, CALM)
    assert said["advice"].endswith(f" waiting, mostly for {nickname(RUN.peers[1])}.")


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (0.34, "0.3 s"),
        (9.97, "10 s"),
        (140, "140 s"),
        (200, "3 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (2e5, "2 d 7 h"),
    ],
)
def test_durations_are_spelled_as_people_do(page: Page, seconds: float, spelled: str) -> None:
    assert page.evaluate("(seconds) => paceline.words.duration(seconds)", seconds) == spelled


@pytest.mark.parametrize(
    ("size", "spelled"),
    [(0, "0 B"), (1500, "1.5 kB"), (999_700, "1 MB"), (123_456_789, "123 MB"), (2.5e12, "2.5 TB")],
)
def test_sizes_are_spelled_in_decimal_units(page: Page, size: float, spelled: str) -> None:
    assert page.evaluate("(bytes) => paceline.words.size(bytes)", size) == spelled
