"""What a running peer serves to Prometheus, and what a running swarm shows to those who look."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paceline.core.events import CreditsCounted, PeerStarted
from paceline.core.nicknames import named
from paceline.peer.observer import observe
from paceline.peer.settings import load_handout
from tests.live.swarms import COMMAND, LiveSwarm, live_swarm, small_run

pytestmark = pytest.mark.live
Scrape = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSwarm]:
    """Two peers that have committed a round and have many more before them."""
    with live_swarm(tmp_path_factory.mktemp("metrics"), small_run(rounds=1000), peers=2) as swarm:
        swarm.until(lambda: all(swarm.height(name) >= 1 for name in swarm.states))
        yield swarm


def address(swarm: LiveSwarm, name: str) -> str:
    return swarm.events(name, PeerStarted)[0].metrics_address


def fetch(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def scraped(address: str) -> tuple[Scrape, set[str]]:
    """All samples by name and label, and the names of those that only grow."""
    samples: Scrape = {}
    counters: set[str] = set()
    for family in text_string_to_metric_families(fetch(address, "/metrics")):
        for sample in family.samples:
            samples[sample.name, ",".join(sample.labels.values())] = sample.value
            if family.type == "counter" and sample.name.endswith("_total"):
                counters.add(sample.name)
    return samples, counters


def test_a_scrape_of_every_peer_parses_and_its_counters_move(running: LiveSwarm) -> None:
    first = {name: scraped(address(running, name)) for name in running.local.names}
    heights = {name: running.height(name) for name in running.local.names}
    running.until(lambda: all(running.height(name) >= heights[name] + 2 for name in heights))
    for name, (before, counters) in first.items():
        after, _ = scraped(address(running, name))
        assert set(before) <= set(after)
        assert {"paceline_commits_total", "paceline_records_rejected_total"} <= counters
        assert all(after[key] >= value for key, value in before.items() if key[0] in counters)
        for counter in ("commits", "bytes_received", "bytes_sent"):
            assert after[f"paceline_{counter}_total", ""] > before[f"paceline_{counter}_total", ""], counter
        for phase in ("train", "wait", "reduce"):
            key = ("paceline_phase_seconds_total", phase)
            assert after[key] > before[key], phase
        assert after["paceline_credits", ""] > 0
        assert after["paceline_roster_size", ""] == 2
        assert 0 < after["paceline_loss", ""] < 10
        assert json.loads(fetch(address(running, name), "/healthz"))["healthy"]
    running.until(lambda: sum(coordinates(running, name) for name in first) == 1)


def coordinates(swarm: LiveSwarm, name: str) -> float:
    return scraped(address(swarm, name))[0]["paceline_coordinator", ""]


def test_the_endpoint_is_the_one_that_the_peer_announces_in_its_own_record(running: LiveSwarm) -> None:
    view = observe(load_handout(running.folder.handout))
    announced = {record.peer_id: record.metrics_address for record in view.peers}
    assert announced == {running.peer_id(name): address(running, name) for name in running.local.names}
    for peer_id, place in announced.items():
        assert f'peer_id="{peer_id}"' in fetch(place, "/metrics")


def test_status_and_credits_of_a_running_swarm_show_every_peer(running: LiveSwarm) -> None:
    running.until(lambda: all(running.events(name, CreditsCounted) for name in running.local.names))
    ids = [running.peer_id(name) for name in running.local.names]
    handout = str(running.folder.handout)
    status = shown("status", handout)
    assert running.run.run_id in status
    assert all(named(peer_id) in status for peer_id in ids)
    assert all(address(running, name) in status for name in running.local.names)
    balances = shown("credits", load_handout(Path(handout)).seeds[0])
    assert all(f"{named(peer_id)} " in balances and peer_id in balances for peer_id in ids)


def shown(*arguments: str) -> str:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_endpoint_closes_with_the_peer(running: LiveSwarm) -> None:
    name = running.local.names[-1]
    host, port = address(running, name).rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=20).close()
    running.local.ask_to_leave()
    running.until(lambda: not running.local.running())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=20)
