"""A real Prometheus on loopback, configured by `ops/` but for its addresses and its patience."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="prometheus is not installed: apt-get install prometheus, or scripts/install-tools",
)
PATIENCE_S = 240.0
_OBSERVER = "127.0.0.1:8088"


class Prometheus:
    """Asks a running Prometheus.

    Attributes:
        diagnosis: Says more when something never comes true.
    """

    def __init__(self, address: str, log: Path) -> None:
        self._client = httpx.Client(base_url=f"http://{address}/api/v1", timeout=60, trust_env=False)
        self._log = log
        self.diagnosis: Callable[[], str] = lambda: ""

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate now: samples with `metric` and `value`."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def awaited(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate until there is something: a target may be up before its samples are stored."""
        self.until(lambda: self.query(expression))
        return self.query(expression)

    def targets(self, job: str) -> list[dict[str, Any]]:
        """Targets of a job that are scraped now."""
        active = self.ask("targets", state="active")["activeTargets"]
        return [target for target in active if target["labels"]["job"] == job]

    def firing(self, alert: str) -> bool:
        return bool(self.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}'))

    def until(self, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"it never came true; {self.log()}\n{self.diagnosis()}"
            time.sleep(0.2)

    def is_up(self) -> bool:
        try:
            return bool(self.query("vector(1)"))
        except (httpx.HTTPError, json.JSONDecodeError):
            return False

    def log(self) -> str:
        return self._log.read_text()[-2000:]


@contextmanager
def prometheus_of(observer: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus over an observer; what takes seconds or minutes in `ops/` takes a second here."""
    assert PROMETHEUS is not None
    folder.mkdir(parents=True)
    (folder / "prometheus.yml").write_text(hurried_configuration(observer))
    (folder / "alerts.yml").write_text(hurried_alerts())
    address, log = f"127.0.0.1:{_free_port()}", folder / "output.txt"
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        prometheus = Prometheus(address, log)
        prometheus.until(prometheus.is_up)
        yield prometheus
    finally:
        process.terminate()
        process.wait(timeout=60)


def hurried_configuration(observer: str) -> str:
    """The configuration of `ops/`, for an observer at another address and with intervals of a second."""
    text = (OPS / "prometheus.yml").read_text()
    assert text.count(_OBSERVER) == 2  # the observer's own metrics, and its /sd
    configuration = yaml.safe_load(text.replace(_OBSERVER, observer))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in configuration["scrape_configs"]:
        for discovery in job.get("http_sd_configs", []):
            discovery["refresh_interval"] = "1s"
    return yaml.safe_dump(configuration, sort_keys=False)


def hurried_alerts() -> str:
    """The alerts of `ops/`, each of which waits for a second instead of minutes."""
    rules = yaml.safe_load((OPS / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    return yaml.safe_dump(rules, sort_keys=False)


def dashboard() -> dict[str, Any]:
    """The dashboard for Grafana."""
    content: dict[str, Any] = json.loads((OPS / "grafana.json").read_text(encoding="utf-8"))
    return content


def dashboard_queries() -> list[str]:
    """Every expression of the dashboard: of its panels, annotations and variables."""
    content = dashboard()
    panels = [target["expr"] for panel in content["panels"] for target in panel.get("targets", [])]
    annotations = [each["expr"] for each in content["annotations"]["list"] if "expr" in each]
    return [*panels, *annotations]


def filled_in(expression: str, run_id: str) -> str:
    """Put values for the variables of the dashboard into one of its expressions, as Grafana does."""
    values = {"$run": run_id, "$peer": ".*", "$__rate_interval": "1m"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
