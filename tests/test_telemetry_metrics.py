"""A real scrape tells where the peer stands, and nobody can take the server down."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from paceline.core.errors import ConfigError
from paceline.core.events import (
    AttemptVoided,
    CoordinatorChanged,
    CreditsCounted,
    DriftDetected,
    Evaluated,
    Event,
    PeerStarted,
    PhaseChanged,
    ReduceEnded,
    RepairFailed,
    RoundCommitted,
    RoundPlanned,
    StateFetched,
    StepDone,
    StepSkipped,
)
from paceline.core.records import Phase
from paceline.core.wire import REASONS
from paceline.telemetry import Health, MetricsServer, PrometheusSink
from tests.core.history import peers

ME, OTHER = (key.peer_id for key in peers(2))
FINE = Health(healthy=True, round_id=3, phase="train")


class Usage(NamedTuple):
    """What `shutil.disk_usage` tells of a disk."""

    free: int
    total: int


@dataclass
class Peer:
    """A sink, the clock it reads, and the server it is scraped from."""

    now: float = 1000.0
    rejected: dict[str, int] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    health: Health = FINE
    disk: list[int] = field(default_factory=lambda: [1, 2])
    """Bytes free and in all; empty when the disk is gone."""

    def __post_init__(self) -> None:
        self.sink = PrometheusSink(
            self.registry, ME, lambda: self.rejected, clock=lambda: self.now, disk=self.usage
        )
        self.server = MetricsServer("127.0.0.1", 0, self.registry, lambda: self.health)

    def usage(self) -> Usage:
        if not self.disk:
            raise FileNotFoundError(2, "No such file or directory")
        return Usage(*self.disk)

    def tell(self, *told: Event) -> None:
        for event in told:
            self.sink(event)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.server.address, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def scrape(self) -> dict[str, float]:
        """Every sample by name and labels, such as `paceline_phase{train}`."""
        response, body = self.get("/metrics")
        assert response.status == 200
        assert str(response.getheader("Content-Type")).startswith("text/plain; version=")
        return {
            sample.name + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    with made.server:
        yield made


def test_a_new_peer_shows_every_metric_at_zero(peer: Peer) -> None:
    found = peer.scrape()
    plain = [
        *("round", "inner_step", "loss", "tokens_per_second", "bytes_received_total", "bytes_sent_total"),
        *("roster_size", "commits_total", "voids_total", "drift_detected_total", "credits", "coordinator"),
        *("term", "last_commit_timestamp_seconds", "steps_skipped_total", "validation_loss"),
        *("repairs_total", "repairs_failed_total", "step_seconds_total"),
    ]
    for name in plain:
        assert found[f"paceline_{name}"] == 0, name
    for phase in Phase:
        assert found[f"paceline_phase{{{phase.value}}}"] == 0
        assert found[f"paceline_phase_seconds_total{{{phase.value}}}"] == 0
    for reason in REASONS:
        assert found[f"paceline_records_rejected_total{{{reason}}}"] == 0
    assert found[f"paceline_peer_info{{{ME}}}"] == 1


def test_a_scrape_shows_what_happened(peer: Peer) -> None:
    peer.tell(
        PeerStarted(
            peer_id=ME,
            run_id="demo-1",
            multiaddrs=(),
            metrics_address=peer.server.address,
            round_id=2,
            parameters=10,
            device="cpu",
        ),
        PhaseChanged(round_id=3, phase="train"),
        StepDone(round_id=3, inner_step=3, of_steps=20, loss=2.6, tokens=1024, seconds=0.25),
        StepDone(round_id=3, inner_step=4, of_steps=20, loss=2.5, tokens=1024, seconds=0.5),
        StepSkipped(round_id=3, inner_step=5, in_a_row=1),
        CoordinatorChanged(term=7, coordinator=ME, is_me=True),
        RoundPlanned(round_id=3, term=7, attempt=0, members=4),
        ReduceEnded(round_id=3, attempt=0, complete=False, seconds=1, bytes_in=10, bytes_out=20),
        AttemptVoided(round_id=3, attempt=0, cause="x"),
        RoundPlanned(round_id=3, term=7, attempt=1, members=3),
        ReduceEnded(round_id=3, attempt=1, complete=True, seconds=1, bytes_in=100, bytes_out=200),
    )
    peer.now = 1500.0
    peer.tell(
        RoundCommitted(round_id=3, loss=2.4, members=3, digest="ab" * 32, sync_s=1.0),
        Evaluated(round_id=3, val_loss=2.25),
        CreditsCounted(round_id=3, balance=480),
        DriftDetected(round_id=3, ours="", theirs="ab" * 32),
        StateFetched(round_id=3, size_bytes=1, seconds=1, donors=(OTHER,)),
        RepairFailed(cause="x"),
    )
    found = peer.scrape()
    expected = {
        **{"round": 3, "inner_step": 4, "loss": 2.5, "tokens_per_second": 2048, "validation_loss": 2.25},
        **{"bytes_received_total": 110, "bytes_sent_total": 220, "roster_size": 3, "commits_total": 1},
        **{"step_seconds_total": 0.75},
        **{"voids_total": 1, "drift_detected_total": 1, "credits": 480, "coordinator": 1, "term": 7},
        **{"last_commit_timestamp_seconds": 1500, "steps_skipped_total": 1, "repairs_total": 1},
        **{
            "repairs_failed_total": 1,
            "phase{train}": 1,
            "phase{reduce}": 0,
            f"peer_info{{cpu,{ME},demo-1}}": 1,
        },
    }
    assert {name: found[f"paceline_{name}"] for name in expected} == expected


def test_counters_move_between_two_scrapes(peer: Peer) -> None:
    committed = RoundCommitted(round_id=3, loss=2.4, members=3, digest="ab" * 32, sync_s=1.0)
    peer.tell(committed)
    before = peer.scrape()["paceline_commits_total"]
    peer.tell(committed, committed)
    assert peer.scrape()["paceline_commits_total"] == before + 2


def test_exactly_one_phase_is_on(peer: Peer) -> None:
    for phase in Phase:
        peer.tell(PhaseChanged(round_id=1, phase=phase.value))
        found = peer.scrape()
        assert [name for name in Phase if found[f"paceline_phase{{{name.value}}}"]] == [phase]


def test_the_time_spent_is_counted_by_phase_and_also_within_one(peer: Peer) -> None:
    peer.tell(PhaseChanged(round_id=1, phase="train"))
    peer.now += 3
    peer.tell(StepDone(round_id=1, inner_step=1, of_steps=2, loss=1, tokens=1, seconds=3))
    assert peer.scrape()["paceline_phase_seconds_total{train}"] == 3
    peer.now += 2
    peer.tell(PhaseChanged(round_id=1, phase="reduce"))
    peer.now += 1.5
    peer.tell(PhaseChanged(round_id=2, phase="train"))
    found = peer.scrape()
    assert found["paceline_phase_seconds_total{train}"] == 5
    assert found["paceline_phase_seconds_total{reduce}"] == 1.5


def test_no_counter_ever_goes_back(peer: Peer) -> None:
    peer.tell(PhaseChanged(round_id=1, phase="train"))
    peer.now += 5
    peer.tell(PhaseChanged(round_id=1, phase="train"))
    peer.now -= 100
    peer.tell(PhaseChanged(round_id=1, phase="train"))
    assert peer.scrape()["paceline_phase_seconds_total{train}"] == 5


def test_no_second_is_counted_twice_when_events_come_from_several_threads() -> None:
    ticks, registry = count(), CollectorRegistry()
    sink = PrometheusSink(registry, ME, clock=lambda: next(ticks))
    sink(PhaseChanged(round_id=1, phase="train"))

    def emit() -> None:
        for _ in range(500):
            sink(AttemptVoided(round_id=1, attempt=0, cause=""))

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("paceline_phase_seconds_total", {"phase": "train"}) == 2000


def test_a_new_round_starts_with_no_steps(peer: Peer) -> None:
    peer.tell(StepDone(round_id=1, inner_step=9, of_steps=9, loss=1, tokens=1, seconds=0))
    assert peer.scrape()["paceline_inner_step"] == 9
    peer.tell(PhaseChanged(round_id=1, phase="reduce"))
    assert peer.scrape()["paceline_inner_step"] == 9
    peer.tell(PhaseChanged(round_id=2, phase="train"))
    assert peer.scrape()["paceline_inner_step"] == 0


def test_losing_the_duty_is_seen(peer: Peer) -> None:
    peer.tell(CoordinatorChanged(term=1, coordinator=ME, is_me=True))
    peer.tell(CoordinatorChanged(term=2, coordinator=OTHER, is_me=False))
    found = peer.scrape()
    assert (found["paceline_coordinator"], found["paceline_term"]) == (0, 2)


def test_rejections_are_read_at_the_moment_of_the_scrape(peer: Peer) -> None:
    peer.rejected["size"] = 5
    peer.rejected["flood"] = 2
    found = peer.scrape()
    assert found["paceline_records_rejected_total{size}"] == 5
    assert found["paceline_records_rejected_total{flood}"] == 2
    assert found["paceline_records_rejected_total{stale}"] == 0
    peer.rejected["size"] = 6
    assert peer.scrape()["paceline_records_rejected_total{size}"] == 6


def test_the_space_of_the_disk_is_read_at_the_moment_of_the_scrape(peer: Peer) -> None:
    peer.disk[:] = [5_000, 20_000]
    found = peer.scrape()
    assert (found["paceline_disk_free_bytes"], found["paceline_disk_size_bytes"]) == (5_000, 20_000)
    peer.disk[0] = 4_000
    assert peer.scrape()["paceline_disk_free_bytes"] == 4_000


def test_a_disk_that_is_gone_takes_nothing_else_along(peer: Peer) -> None:
    peer.disk.clear()
    found = peer.scrape()
    assert "paceline_disk_free_bytes" not in found
    assert found["paceline_round"] == 0


def test_a_restart_is_seen_by_the_time_of_the_start(peer: Peer) -> None:
    peer.now += 60
    assert peer.scrape()["paceline_start_time_seconds"] == 1000


def test_names_follow_the_conventions_of_prometheus(peer: Peer) -> None:
    _, body = peer.get("/metrics")
    for family in text_string_to_metric_families(body.decode()):
        assert family.name.startswith("paceline_")
        assert family.documentation.endswith((".", "_created")) or family.name.endswith("_created")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_openmetrics_is_served_to_who_asks_for_it(peer: Peer) -> None:
    response, body = peer.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert str(response.getheader("Content-Type")).startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"paceline_commits", "paceline_peer"}


def test_health_is_told_by_status_and_by_json(peer: Peer) -> None:
    response, body = peer.get("/healthz?verbose=1")
    assert response.status == 200
    assert response.getheader("Content-Type") == "application/json"
    assert Health.model_validate_json(body) == FINE
    peer.health = Health(healthy=False, round_id=3, phase="wait", cause="its averager died")
    response, body = peer.get("/healthz")
    assert response.status == 503
    assert json.loads(body)["cause"] == "its averager died"


def test_a_failing_health_check_is_answered_with_503() -> None:
    def broken() -> Health:
        raise RuntimeError("who knows")

    peer = Peer()
    peer.server = MetricsServer("127.0.0.1", 0, peer.registry, broken)
    with peer.server:
        response, body = peer.get("/healthz")
    assert response.status == 503
    assert "who knows" in Health.model_validate_json(body).cause


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_only_get_is_answered(peer: Peer, method: str) -> None:
    response, body = peer.get("/metrics", method=method)
    assert response.status == 405
    assert response.getheader("Allow") == "GET"
    assert body == (b"" if method == "HEAD" else b"GET only\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/healthz.html"])
def test_other_paths_are_not_there(peer: Peer, path: str) -> None:
    response, body = peer.get(path)
    assert response.status == 404
    assert b"/metrics" in body
    assert response.getheader("Server") == "paceline"


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"\r\n\r\n", b"\x00" * 100, b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"G" * 70_000],
    ids=["nothing", "empty line", "zeros", "no path", "odd version", "endless line"],
)
def test_nonsense_leaves_the_server_up(peer: Peer, request_bytes: bytes) -> None:
    host, port = peer.server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(request_bytes)
    assert peer.get("/healthz")[0].status == 200


def test_a_strangers_connections_hold_up_nothing_but_each_other(peer: Peer) -> None:
    host, port = peer.server.address.split(":")
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(60)]
    peer.tell(CoordinatorChanged(term=1, coordinator=ME, is_me=True))
    # Those beyond the limit are hung up on; the last one is told so at once.
    assert idle[-1].recv(1) == b""
    for stranger in idle:
        stranger.close()
    while True:
        try:
            assert peer.scrape()["paceline_term"] == 1
        except (ConnectionError, OSError):
            continue  # the server has not yet noticed that the others are gone
        break


def test_whoever_sends_byte_by_byte_is_hung_up_on_after_a_while(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paceline.telemetry.server.MOST_S", 0.5)
    host, port = peer.server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=0.2) as slow, pytest.raises(ConnectionError):
        while True:  # every wait for the next byte is short
            slow.sendall(b"G")
            try:
                if slow.recv(1) == b"":
                    raise ConnectionResetError
            except TimeoutError:
                continue


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil"]
)
def test_a_loopback_port_answers_to_no_foreign_name(peer: Peer, name: str) -> None:
    for path in ("/metrics", "/healthz", "/proof?nonce=" + "ab" * 16):
        assert _asked_as(peer, path, name) == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.1:9100", "localhost:9100", "[::1]:9100", "LOCALHOST"])
def test_a_loopback_port_answers_to_its_own_names(peer: Peer, name: str) -> None:
    assert _asked_as(peer, "/healthz", name) == 200


def _asked_as(peer: Peer, path: str, name: str) -> int:
    connection = http.client.HTTPConnection(peer.server.address, timeout=30)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", name)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_port_zero_picks_a_port_and_frees_it_afterwards() -> None:
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry(), lambda: FINE)
    assert server.address == ""
    with server:
        host, _, port = server.address.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
    assert server.address == ""
    with MetricsServer("127.0.0.1", int(port), CollectorRegistry(), lambda: FINE) as again:
        assert again.address == f"127.0.0.1:{port}"


def test_a_taken_port_is_named_with_a_way_out(peer: Peer) -> None:
    port = int(peer.server.address.split(":")[1])
    rival = MetricsServer("127.0.0.1", port, CollectorRegistry(), lambda: FINE)
    with pytest.raises(ConfigError, match=rf"metrics\.port {port} of 127\.0\.0\.1 is taken") as caught, rival:
        pass
    assert "0 for any free one" in caught.value.remedy


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_is_not_ours_is_named(host: str, port: int) -> None:
    server = MetricsServer(host, port, CollectorRegistry(), lambda: FINE)
    with pytest.raises(ConfigError, match=r"can't be served at"), server:
        pass


def test_importing_telemetry_starts_nothing() -> None:
    program = (
        "import sys, threading, paceline.telemetry\n"
        "assert threading.active_count() == 1\n"
        "assert not {'torch', 'hivemind'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
