"""How a swarm and its peers are laid out: nickname and short id, and whole ids where there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from paceline.cli.screen import Fitting, count, harmless
from paceline.core.nicknames import named, nickname
from paceline.core.records import PeerRecord

if TYPE_CHECKING:
    from paceline.peer.compose import SwarmView

_STATUS = ("phase", "round", "step", "loss", "samples/s", "credits", "metrics")
_STATUS_MOST = frozenset(_STATUS)
_STATUS_LESS = _STATUS_MOST - {"metrics"}
_STATUS_LEAST = _STATUS_LESS - {"loss", "samples/s"}


def credit_table(balances: Mapping[str, int], names: Mapping[str, str] | None = None) -> Fitting:
    """Lay out balances, the largest first.

    Args:
        balances: Credits by peer id.
        names: What peers are called here, by peer id, if they are.

    Returns:
        A table of peers, credits, shares and, where there is room, whole ids.
    """
    tables = [Table(box=None, pad_edge=False) for _ in range(2)]
    has_whole_ids, total = tables[0], sum(balances.values())
    for table in tables:
        if names:
            table.add_column("", no_wrap=True)
        table.add_column("peer", no_wrap=True)
        table.add_column("credits", justify="right")
        table.add_column("share", justify="right")
    has_whole_ids.add_column("peer id", no_wrap=True)
    for peer_id, balance in sorted(balances.items(), key=lambda item: (-item[1], item[0])):
        row = [names.get(peer_id, "")] if names else []
        row += [named(peer_id), f"{balance:,}", f"{balance / total:.1%}" if total else "–"]
        for table in tables:
            table.add_row(*row, *([peer_id] if table is has_whole_ids else []))
    return Fitting(tables)


def headline(view: SwarmView) -> list[str]:
    """Say in a few lines how a swarm stands.

    Args:
        view: The swarm.

    Returns:
        Lines: the run, its round, who is at the front, the last commit, what was measured.
    """
    run, head = view.run, view.head
    front = f"{named(view.coordinator)} (term {view.term})" if view.coordinator else "nobody yet"
    current = min((head.round_id if head is not None else 0) + 1, run.rounds)
    lines = [
        f"run      {run.run_id}",
        f"round    {current} of {run.rounds}, {run.timetable.steps_of(current)} inner steps",
        f"front    {front}",
    ]
    if head is not None and head.round_id:
        lines.append(
            f"head     {head.digest()[:16]}: {len(head.participating_nodes)} peers, loss {head.avg_loss:.3f}"
        )
    losses = [metrics.val_loss for metrics in view.metrics if metrics.val_loss is not None]
    if losses:
        lines.append(f"measured {sum(losses) / len(losses):.3f} nats per token on held-out text")
    return lines


def peer_table(view: SwarmView) -> Fitting:
    """Lay out the peers of a swarm.

    Args:
        view: The swarm.

    Returns:
        A table with a line for each peer. Where there is little room, only nicknames, and what matters most.
    """
    wanted = (
        (True, _STATUS_MOST),
        (True, _STATUS_LESS),
        (False, _STATUS_LESS),
        (False, _STATUS_LEAST),
        (False, frozenset({"phase"})),
    )
    return Fitting([_peers(view, has_ids=has_ids, columns=columns) for has_ids, columns in wanted])


def _peers(view: SwarmView, *, has_ids: bool, columns: frozenset[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("peer", no_wrap=True)
    shown = [column for column in _STATUS if column in columns]
    for column in shown:
        table.add_column(column, justify="left" if column in ("phase", "round") else "right", no_wrap=True)
    for record in sorted(view.peers, key=lambda record: record.peer_id):
        cells = _cells(record, view)
        table.add_row(
            "▸" if record.peer_id == view.coordinator else " ",
            named(record.peer_id) if has_ids else nickname(record.peer_id),
            *(cells[column] for column in shown),
        )
    return table


def _cells(record: PeerRecord, view: SwarmView) -> dict[str, str | Text]:
    return {
        "phase": record.phase.value,
        "round": str(record.round_id),
        "step": f"{record.inner_step}/{view.run.timetable.steps_of(max(1, record.round_id))}",
        "loss": f"{record.loss:.3f}",
        "samples/s": count(record.samples_per_s),
        "credits": f"{view.credits.get(record.peer_id, 0):,}",
        "metrics": Text(harmless(record.metrics_address) or "–"),
    }
