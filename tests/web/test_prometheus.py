"""A real Prometheus over an observer's port: it finds who has proven an address, and believes nobody more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from paceline.core.events import StepDone
from paceline.telemetry import Health, MetricsServer, PrometheusSink
from tests.web.prometheus import Prometheus, needs_prometheus, prometheus_of
from tests.web.staged import IDS, Port, opened, peer, picture

pytestmark = needs_prometheus
RUN = picture().run_id
LIES = f"""\
# TYPE paceline_swarm_chain_height gauge
paceline_swarm_chain_height{{run_id="{RUN}"}} 9999
up 0
evil_metric 1
ALERTS{{alertname="PacelineStalled",alertstate="firing"}} 1
paceline_round{{run_id="other",peer_id="somebody",nickname="boss",instance="x",job="paceline-observer"}} 7
"""


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """A peer that serves anything as its metrics."""

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def honest(step: int) -> Iterator[str]:
    """A peer that tells the truth, and has done some steps."""
    registry = CollectorRegistry()
    sink = PrometheusSink(registry, IDS[0])
    sink(StepDone(round_id=3, inner_step=step, of_steps=20, loss=2.0, tokens=10, seconds=1.0))
    with MetricsServer("127.0.0.1", 0, registry, lambda: Health(healthy=True)) as server:
        yield server.address


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Port, Prometheus, dict[str, str]]]:
    with ExitStack() as stack:
        port = stack.enter_context(opened())
        places = {
            "honest": stack.enter_context(honest(5)),
            "again": stack.enter_context(honest(6)),
            "liar": stack.enter_context(serving(LIES.encode())),
            "flood": stack.enter_context(serving(b"# " + b"x" * 2_000_000 + b"\nevil_metric 1\n")),
        }
        port.source.show(
            picture(
                peers=(
                    peer(0, metrics_address=places["honest"]),
                    peer(1, metrics_address=places["liar"]),
                    peer(2, metrics_address=places["flood"]),
                    peer(3, metrics_address=places["again"], is_reachable=False),
                )
            )
        )
        folder: Path = tmp_path_factory.mktemp("prometheus") / "run"
        prometheus = stack.enter_context(prometheus_of(port.address, folder))
        prometheus.until(lambda: health(prometheus) == {IDS[0]: "up", IDS[1]: "up", IDS[2]: "down"})
        yield port, prometheus, places


def health(prometheus: Prometheus) -> dict[str, str]:
    return {target["labels"]["peer_id"]: target["health"] for target in prometheus.targets("paceline-peers")}


Stage = tuple[Port, Prometheus, dict[str, str]]


def test_a_target_carries_the_names_that_the_observer_gives_it(stage: Stage) -> None:
    _, prometheus, places = stage
    (first,) = [
        target for target in prometheus.targets("paceline-peers") if target["labels"]["peer_id"] == IDS[0]
    ]
    assert first["labels"] == {
        "job": "paceline-peers",
        "instance": IDS[0],
        "run_id": RUN,
        "peer_id": IDS[0],
        "nickname": "able-lark-0",
    }
    assert first["scrapeUrl"] == f"http://{places['honest']}/metrics"
    assert first["discoveredLabels"]["__meta_paceline_phase"] == "train"


def test_a_peer_that_serves_the_swarms_metrics_is_not_believed(stage: Stage) -> None:
    _, prometheus, _ = stage
    # The observer and the liar, whoever is scraped first.
    prometheus.awaited(f'paceline_round{{peer_id="{IDS[1]}"}}')
    heights = prometheus.awaited("paceline_swarm_chain_height")
    assert [(each["metric"]["job"], each["value"][1]) for each in heights] == [("paceline-observer", "2")]
    assert prometheus.query("evil_metric") == []
    assert prometheus.query(f'ALERTS{{peer_id="{IDS[1]}"}}') == []
    assert {each["value"][1] for each in prometheus.query(f'up{{peer_id="{IDS[1]}"}}')} == {"1"}


def test_what_a_peer_says_of_itself_stays_under_its_own_name(stage: Stage) -> None:
    _, prometheus, _ = stage
    (lie,) = prometheus.awaited("paceline_round == 7")
    kept = {name: lie["metric"][name] for name in ("peer_id", "run_id", "nickname", "instance", "job")}
    assert kept == {
        "peer_id": IDS[1],
        "run_id": RUN,
        "nickname": "able-lark-1",
        "instance": IDS[1],
        "job": "paceline-peers",
    }
    assert lie["metric"]["exported_peer_id"] == "somebody"


def test_a_peer_that_serves_too_much_is_not_scraped_and_holds_up_nobody(stage: Stage) -> None:
    _, prometheus, _ = stage
    (flood,) = [
        target for target in prometheus.targets("paceline-peers") if target["labels"]["peer_id"] == IDS[2]
    ]
    assert "body size limit exceeded" in flood["lastError"]
    assert prometheus.awaited(f'paceline_inner_step{{peer_id="{IDS[0]}"}}')


def test_the_series_of_a_peer_go_on_at_another_port(stage: Stage) -> None:
    port, prometheus, places = stage
    prometheus.awaited("paceline_inner_step == 5")
    port.source.show(picture(peers=(peer(0, metrics_address=places["again"]),)))
    prometheus.awaited("paceline_inner_step == 6")
    series = prometheus.ask("series", **{"match[]": "paceline_inner_step"})
    assert len(series) == 1
    prometheus.until(lambda: health(prometheus) == {IDS[0]: "up"})
