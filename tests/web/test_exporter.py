"""The swarm's metrics: what they are called, what they say, and what a hostile peer makes of them."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from paceline.watch.picture import Picture, RoundView
from paceline.watch.stall import typical_round_s
from paceline.web.exporter import METRICS, SwarmMetrics
from paceline.web.figures import MAX_PEERS
from tests.web.made_up import MadeUpRun
from tests.web.staged import BEGIN, HOSTILE, IDS, peer, picture


def scraped(shown: Picture) -> dict[str, float]:
    """Every sample by name and labels but the run's, such as `peers{lost}`."""
    registry = CollectorRegistry()
    registry.register(SwarmMetrics(lambda: shown))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("run_id") == shown.run_id
            named = f"{{{labels.get('phase', labels.get('nickname'))}}}" if labels else ""
            found[sample.name.removeprefix("paceline_swarm_") + named] = sample.value
    return found


def families(shown: Picture) -> dict[str, str]:
    """Types by name."""
    registry = CollectorRegistry()
    registry.register(SwarmMetrics(lambda: shown))
    return {
        family.name: family.type
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }


def test_a_scrape_tells_how_the_swarm_stands() -> None:
    shown = picture(
        peers=(
            peer(0, credits=160, bytes_out=10, bytes_in=9, is_coordinator=True, loss=2.5),
            peer(1, standing="wait", is_reachable=False),
            peer(2, standing="lost", seen_s=60.0, is_reachable=None),
            peer(3, standing="leave"),
        ),
        attempts_voided=2,
        coordinator_changes=3,
        term=5,
        bytes_sent=100,
        data_parallel_bytes=5000,
        begin=BEGIN - 5,
        quorum_here=2,
    )
    found = scraped(shown)
    assert {name: value for name, value in found.items() if name.startswith("peers{") and value} == {
        **{"peers{train}": 1, "peers{wait}": 1, "peers{lost}": 1, "peers{leave}": 1}
    }
    whole = {
        "chain_height": 2,
        "rounds_committed_total": 2,
        "rounds_planned": 10,
        "attempts_voided_total": 2,
        "coordinator_changes_total": 3,
        "term": 5,
        "training_loss": 1.5,
        "tokens_per_second": 1024,
        "sent_bytes_total": 100,
        "data_parallel_bytes_total": 5000,
        "last_commit_timestamp_seconds": BEGIN + 20,
        "last_commit_age_seconds": 5,
        "last_heard_age_seconds": 0.5,
        "watch_age_seconds": 30,
        "round_duration_seconds": 10,
        "quorum_needed": 3,
        "quorum_here": 2,
        "quorum_margin": -1,
    }
    assert {name: found[name] for name in whole} == whole
    assert "validation_loss" not in found  # nobody has told one
    first = {
        "up": 1,
        "coordinator": 1,
        "round": 3,
        "seen_age_seconds": 0.5,
        "reachable": 1,
        "credits": 160,
        "tokens_per_second": 512,
        "training_loss": 2.5,
        "sent_bytes_total": 10,
        "received_bytes_total": 9,
    }
    assert {name: found[f"peer_{name}{{able-lark-0}}"] for name in first} == first
    assert [found[f"peer_up{{able-lark-{number}}}"] for number in range(4)] == [1, 1, 0, 0]
    assert found["peer_reachable{able-lark-1}"] == 0
    assert "peer_reachable{able-lark-2}" not in found


def test_a_picture_without_peers_still_shows_every_metric() -> None:
    empty = picture(peers=(), rounds=(), rounds_committed=0, last_commit_at=None)
    expected = {f"paceline_swarm_{metric.name}": metric.kind for metric in METRICS}
    assert families(empty) == expected
    assert families(picture()) == expected
    found = scraped(empty)
    assert found["chain_height"] == found["peers{train}"] == 0
    assert "last_commit_age_seconds" not in found


def test_names_follow_the_conventions() -> None:
    run = MadeUpRun(rounds=6, lost_in=3, voided_in=4, late_in=2)
    registry = CollectorRegistry()
    registry.register(SwarmMetrics(lambda: run.picture(run.end - 10)))
    found = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert len(found) == len(METRICS)
    for family in found:
        assert family.name.startswith("paceline_swarm_")
        assert family.documentation.endswith(".")
        suffix = "_total" if family.type == "counter" else ""
        assert {sample.name for sample in family.samples} <= {family.name + suffix}
        assert all("run_id" in sample.labels for sample in family.samples)


def test_what_peers_say_can_be_no_second_metric() -> None:
    liar = peer(0, nickname=HOSTILE + '"} 1\npaceline_swarm_chain_height{run_id="demo-1a2b3c4d"} 99\n')
    found = scraped(picture(peers=(liar, peer(1, tokens_per_s=1e308), peer(2, tokens_per_s=1e308))))
    assert found["chain_height"] == 2
    assert found["tokens_per_second"] == math.inf  # two claims beyond reason, and still a scrape


def test_made_up_identities_do_not_crowd_out_those_who_take_part() -> None:
    crowd = [
        peer(0, peer_id=f"x{number}", nickname=f"x{number}", standing="lost") for number in range(MAX_PEERS)
    ]
    found = scraped(picture(peers=(*crowd, *(peer(number) for number in range(4)))))
    ups = [name for name in found if name.startswith("peer_up{")]
    assert len(ups) == MAX_PEERS
    assert sum("able-lark" in name for name in ups) == len(IDS)
    assert found["peers{lost}"] == MAX_PEERS


def commits(*times: float) -> tuple[RoundView, ...]:
    return tuple(
        RoundView(round_id=number, committed_at=BEGIN + at) for number, at in enumerate(times, start=1)
    )


@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [
        (commits(0, 10, 21, 31), 10),
        (commits(0, 10, 20, 500), 10),  # one that stalled says nothing about the others
        (commits(7, 7, 7, 17), 10),  # three were there before the watch
        ((*commits(0), RoundView(round_id=9, committed_at=BEGIN + 900)), 40),  # the watch missed some
        (commits(5), 40),
        ((), 40),
    ],
)
def test_how_long_a_round_takes_follows_from_the_commits_or_from_the_speeds(
    rounds: tuple[RoundView, ...], seconds: float
) -> None:
    # 20 steps of 8 samples at 4 samples per second
    assert typical_round_s(picture(rounds=rounds)) == seconds


def test_how_long_a_round_takes_is_unknown_before_anybody_has_trained() -> None:
    new = tuple(peer(number, inner_step=0, samples=0, samples_per_s=0.0) for number in range(4))
    assert typical_round_s(picture(rounds=(), peers=new)) is None
