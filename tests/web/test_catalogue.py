"""The catalogue of metrics is what is scraped, and is up to date."""

from __future__ import annotations

from pathlib import Path

from paceline.telemetry import PrometheusSink
from paceline.web.catalogue import COMMAND, document, peer_rows, swarm_rows
from paceline.web.exporter import METRICS

ROOT = Path(__file__).parents[2]


def test_the_catalogue_is_up_to_date() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == document(), f"the metrics have changed: run {COMMAND}"


def test_the_catalogue_lists_every_metric_with_its_labels() -> None:
    assert [(row.name.removesuffix("_total"), row.kind) for row in swarm_rows()] == [
        (f"paceline_swarm_{metric.name}", metric.kind) for metric in METRICS
    ]
    for row, metric in zip(swarm_rows(), METRICS, strict=True):
        assert row.labels == tuple(sorted(("run_id", *metric.labels)))
    labels = {row.name: row.labels for row in peer_rows()}
    assert labels["paceline_phase_seconds_total"] == ("phase",)
    assert labels["paceline_records_rejected_total"] == ("reason",)
    assert labels["paceline_peer_info"] == ("device", "peer_id", "run_id")
    assert labels["paceline_disk_free_bytes"] == ()


def test_every_metric_of_both_kinds_has_a_text() -> None:
    rows = [*peer_rows(), *swarm_rows()]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.text.endswith("."), row.name
        assert f"| `{row.name}` |" in document()
    assert PrometheusSink.__doc__
