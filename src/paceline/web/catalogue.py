"""Every metric in one document, `docs/metrics.md`, read off the registries that are scraped.

After a change: `python -m paceline.web.catalogue > docs/metrics.md`
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from paceline.core.events import PeerStarted
from paceline.telemetry import PrometheusSink
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.web.exporter import SwarmMetrics

COMMAND = "python -m paceline.web.catalogue > docs/metrics.md"
"""Writes the document anew."""
_SUFFIX = {"counter": "_total", "info": "_info"}
_OPENING = f"""# Metrics

Written from the code by `{COMMAND}`, and tested against it: the texts are
edited there.

Names follow the conventions of Prometheus: base units, and `_total` for what only grows. `ops/prometheus.yml`
scrapes all of it, `ops/alerts.yml` has the alerts, `ops/grafana.json` a dashboard.
"""
_PEER = """## A peer's own

At `/metrics` of every peer, on the address that it prints at its start (`metrics.host` and `metrics.port`
of its configuration). Prometheus finds the peers of a run through `/sd` of `paceline observe`, which
lists every live peer that has proven to serve its address, and gives all its metrics the labels `run_id`,
`peer_id` and `nickname`. What a peer itself says under these names is kept as `exported_run_id` and
`exported_peer_id`. For relabelling there are also `__meta_paceline_phase` and
`__meta_paceline_coordinator` (`true` or `false`).
"""
_SWARM = """## The swarm

At `/metrics` of `paceline observe`, which reads the signed records of all peers. What peers say of
themselves (speed, bytes, losses) is shown as they say it. What is counted since the watch began goes on
after a restart of the observer when it keeps a history (`--history`), and begins anew otherwise.
"""


class Row(NamedTuple):
    """One metric as the document lists it."""

    name: str
    """As it is scraped."""
    kind: str
    """Its type."""
    labels: tuple[str, ...]
    """Its own labels, sorted."""
    text: str
    """Its help text."""


def peer_rows() -> list[Row]:
    """List the metrics that a peer serves.

    Returns:
        A row per metric, in the order in which they are served.
    """
    registry = CollectorRegistry()
    sink = PrometheusSink(registry, "12D3Koo", disk=lambda: _Disk(free=1, total=2))
    sink(
        PeerStarted(
            peer_id="12D3Koo",
            run_id="demo",
            multiaddrs=(),
            metrics_address="",
            round_id=1,
            parameters=1,
            device="cpu",
        )
    )
    return _rows(registry.collect())


def swarm_rows() -> list[Row]:
    """List the metrics that an observer serves.

    Returns:
        A row per metric, in the order in which they are served.
    """
    return _rows(SwarmMetrics(lambda: _EXAMPLE).collect())


def document() -> str:
    """Write the document.

    Returns:
        The text of `docs/metrics.md`.
    """
    parts = [_OPENING, _PEER, _table(peer_rows()), _SWARM, _table(swarm_rows())]
    return "\n".join(parts)


class _Disk(NamedTuple):
    free: int
    total: int


# Everything is known of it, so that every metric has a sample, which shows the labels.
_EXAMPLE = Picture(
    run_id="demo",
    at=2.0,
    is_live=True,
    rounds_planned=2,
    inner_steps=1,
    tokens_per_sample=1,
    parameters=1,
    lease_s=1.0,
    peers=(
        PeerView(
            peer_id="12D3Koo",
            nickname="able-lark",
            standing="train",
            loss=1.0,
            val_loss=1.0,
            is_reachable=True,
        ),
    ),
    rounds=(
        RoundView(round_id=1, committed_at=1.0, avg_loss=1.0, val_loss=1.0),
        RoundView(round_id=2, committed_at=2.0, avg_loss=1.0, val_loss=1.0),
    ),
    last_commit_at=2.0,
    begin=1.0,
    heard_at=2.0,
)


def _rows(families: Iterable[Metric]) -> list[Row]:
    return [_row(family) for family in families]


def _row(family: Metric) -> Row:
    name = family.name + _SUFFIX.get(family.type, "")
    labels = {label for sample in family.samples if sample.name == name for label in sample.labels}
    return Row(name, family.type, tuple(sorted(labels)), family.documentation)


def _table(rows: list[Row]) -> str:
    lines = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels) or "–"
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
