"""Two tables of what a round costs when a swarm grows: of real peers, and of simulated ones."""

from __future__ import annotations

from statistics import median

from tests.bench.counted_calls import CALLS
from tests.bench.documents import Document
from tests.bench.tables import markdown_table, quantile, seconds, size

_REAL = (
    "real peers",
    "s per round",
    "CPU s",
    "kB",
    *CALLS.values(),
    "PSS, MB",
    "store p50 / p95, ms",
    "get",
    "look",
)
_SIMULATED = (
    "simulated peers",
    "roster",
    "virtual s per round",
    "records written",
    "looks",
    "news",
    "kB looked at",
    "fetches",
)


def markdown(document: Document) -> str:
    """Lay out both tables, and what is missing from them.

    Args:
        document: What `scripts/bench scale` wrote.

    Returns:
        Markdown.
    """
    parts = []
    if document["real"]:
        parts.append(markdown_table(_REAL, [_real(cost) for cost in document["real"]]))
    notes = [f"- {each['peers']} peers: {each['cause']}" for each in document["problems"]]
    for cost in document["real"]:
        lost, of = (len(cost["latency_s"].get(kind, [])) for kind in ("lost", "get"))
        if lost:
            text = "records were not there right after they were stored"
            notes.append(f"- {cost['peers']} peers: {lost} of {of} {text}")
    if notes:
        parts.append("\n".join(notes))
    if document["simulated"]:
        parts.append(markdown_table(_SIMULATED, [_simulated(growth) for growth in document["simulated"]]))
    return "\n\n".join(parts)


def told(cost: Document) -> str:
    """Say the most important in a line."""
    return (
        f"{seconds(median(cost['rounds_s']))} per round, {cost['cpu_s']:.2f} CPU s per peer and round,"
        f" {size(cost['pss_bytes'])} per peer; up after {cost['start_s']:.0f} s"
    )


def _real(cost: Document) -> list[str]:
    wire = cost["wire_bytes"]
    return [
        str(cost["peers"]),
        f"{median(cost['rounds_s']):.2f}",
        f"{cost['cpu_s']:.2f}",
        "–" if wire is None else f"{wire / 1e3:.0f}",
        *(f"{cost['calls'][name]:.1f}" for name in CALLS.values()),
        f"{cost['pss_bytes'] / 1e6:.0f}",
        *(_latency(cost["latency_s"].get(kind, [])) for kind in ("store", "get", "look")),
    ]


def _latency(taken: list[float]) -> str:
    return " / ".join(f"{1e3 * quantile(taken, share):.0f}" for share in (0.5, 0.95)) if taken else "–"


def _simulated(growth: Document) -> list[str]:
    return [
        f"{growth['peers']:,}",
        str(growth["members"]),
        f"{growth['round_s']:.2f}",
        f"{growth['posts']:.1f}",
        f"{growth['reads']:.1f}",
        f"{growth['news']:,.0f}",
        f"{growth['read_kb']:,.0f}",
        f"{growth['fetches']:,.0f}",
    ]
